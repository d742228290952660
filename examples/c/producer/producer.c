/*
 * Producer sends numbered blocks of samples into the ring in a file, as a program would that reads an instrument:
 *
 *     cc -std=c11 -O2 -Wall -Wextra -o /tmp/producer examples/c/producer/producer.c
 *     /tmp/producer RING MESSAGES ID
 *
 * It says how many it sent. ID travels as each message's meta value. It ends with status 1 where it cannot go on.
 */
#include "../shmrouter_ring.h"

#include <stdio.h>

enum { samples = 100 };

struct block {
	uint64_t number; /* from 1 */
	uint64_t sum;    /* of the samples */
	int32_t sample[samples];
};

static void measure(struct block *b, uint64_t number)
{
	b->number = number;
	b->sum = 0;
	for (int i = 0; i < samples; i++) {
		b->sample[i] = (int32_t)((number * 31 + (uint64_t)i * 17) % 1000);
		b->sum += (uint64_t)b->sample[i];
	}
}

int main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: %s RING MESSAGES ID\n", argv[0]);
		return 2;
	}
	uint64_t messages = strtoull(argv[2], NULL, 10), id = strtoull(argv[3], NULL, 10);
	struct shmring ring;
	int rc = shmring_attach(&ring, argv[1]);
	if (rc != SHMRING_OK) {
		fprintf(stderr, "%s: %s\n", argv[1], shmring_text(rc));
		return 1;
	}
	uint64_t sent = 0;
	while (sent < messages) {
		struct block b;
		measure(&b, sent + 1);
		rc = shmring_send(&ring, &b, sizeof b, id, 1000);
		if (rc == SHMRING_OK)
			sent++;
		else if (rc != SHMRING_FULL || shmring_consumer_alive(&ring) != 1)
			break;
	}
	if (sent < messages)
		fprintf(stderr, "%s: %s\n", argv[1], rc == SHMRING_FULL ? "full, and nobody consumes" : shmring_text(rc));
	shmring_close(&ring);
	printf("producer %llu sent %llu\n", (unsigned long long)id, (unsigned long long)sent);
	return sent < messages;
}
