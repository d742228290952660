/*
 * Driver is the producer in C of the tests. Messages are those of ringtest.Fill, numbered from 1.
 *
 *     driver stress RING ID NOTES SEED    sends until it is killed, and notes each message that was sent
 *     driver obey RING ID                 does what the lines of its input say, and answers each with a line
 *     driver life RING ID SIZE TIMEOUT    attaches, sends one message and leaves, between two breakpoints
 */
#include "../shmrouter_ring.h"

#include <signal.h>
#include <stdio.h>

static struct shmring ring;
static uint32_t id;
static uint64_t number = 1; /* of the next message */

static uint32_t crc32(const unsigned char *b, size_t n)
{
	static uint32_t table[256];
	for (uint32_t i = 0; table[255] == 0 && i < 256; i++) {
		table[i] = i;
		for (int k = 0; k < 8; k++)
			table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320 : 0);
	}
	uint32_t crc = ~0u;
	for (size_t i = 0; i < n; i++)
		crc = crc >> 8 ^ table[(crc ^ b[i]) & 255];
	return ~crc;
}

static void fill(unsigned char *b, size_t n)
{
	uint64_t x = (uint64_t)id << 40 ^ number * 0x9E3779B97F4A7C15 ^ (uint64_t)n << 20;
	for (size_t i = 0; i < n; i++) {
		x = x * 6364136223846793005 + 1442695040888963407;
		b[i] = (unsigned char)(x >> 56);
	}
	if (n < 16)
		return;
	memcpy(b, &id, 4);
	memcpy(b + 4, &number, 8);
	uint32_t sum = crc32(b, 12) ^ crc32(b + 16, n - 16);
	memcpy(b + 12, &sum, 4);
}

static int attach(const char *path)
{
	int rc = shmring_attach(&ring, path);
	if (rc != SHMRING_OK)
		fprintf(stderr, "%s\n", shmring_text(rc));
	return rc;
}

/* A message that nobody can read yet stops its sender in the copy, behind the claim. */
static unsigned char *held;
static const size_t held_size = 1 << 16;

static void let_go(void)
{
	if (mprotect(held, held_size, PROT_READ) != 0)
		_exit(3);
}

static void until_told(int signal)
{
	char c = 0;
	(void)signal;
	if (write(1, "held\n", 5) != 5)
		_exit(3);
	while (c != '\n')
		if (read(0, &c, 1) != 1)
			_exit(3);
	let_go();
}

static void for_a_moment(int signal)
{
	struct timespec moment = {0, 100000};
	(void)signal;
	nanosleep(&moment, NULL);
	let_go();
}

static void hold(size_t size, void (*handler)(int))
{
	struct sigaction catch = {0};
	catch.sa_handler = handler;
	if (held == NULL)
		held = mmap(NULL, held_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (held == MAP_FAILED || size > held_size || mprotect(held, held_size, PROT_READ | PROT_WRITE) != 0)
		_exit(3);
	fill(held, size);
	if (mprotect(held, held_size, PROT_NONE) != 0 || sigaction(SIGSEGV, &catch, NULL) != 0)
		_exit(3);
}

/* Where a sixteenth of the messages takes long to copy, many of those who are killed are killed in a claim. */
static int stress(char **argv)
{
	static unsigned char b[1 << 16];
	int notes = open(argv[1], O_WRONLY | O_APPEND | O_CREAT, 0600);
	unsigned short seed[3] = {0};
	uint64_t given = strtoull(argv[2], NULL, 10);
	memcpy(seed, &given, sizeof seed);
	if (notes < 0)
		return 1;
	for (;;) {
		size_t size = 16 + (size_t)nrand48(seed) % ((size_t)16 << nrand48(seed) % 10);
		if (size > shmring_max_frame(&ring))
			size = shmring_max_frame(&ring);
		int slow = nrand48(seed) % 16 == 0;
		if (slow)
			hold(size, for_a_moment);
		else
			fill(b, size);
		const void *message = slow ? held : b;
		int rc = nrand48(seed) % 4 == 0 ? shmring_try_send(&ring, message, size, id)
						: shmring_send(&ring, message, size, id, 500);
		if (rc == SHMRING_OK) {
			if (write(notes, &number, sizeof number) != sizeof number)
				return 1;
			number++;
		} else if (rc != SHMRING_FULL) {
			fprintf(stderr, "%s\n", shmring_text(rc));
			return 1;
		}
	}
}

static int obey(void)
{
	static unsigned char b[1 << 25];
	char word[16], line[64];
	setvbuf(stdout, NULL, _IOLBF, 0);
	setvbuf(stdin, NULL, _IONBF, 0);
	printf("slot %u\n", ring.slot);
	while (fgets(line, sizeof line, stdin) != NULL) {
		size_t size = 0;
		int timeout = 0;
		if (sscanf(line, "%15s %zu %d", word, &size, &timeout) < 1)
			return 2;
		if (strcmp(word, "send") == 0) {
			fill(b, size);
			int rc = shmring_send(&ring, b, size, id, timeout);
			number += rc == SHMRING_OK;
			printf("%s\n", shmring_text(rc));
		} else if (strcmp(word, "fill") == 0) {
			uint64_t first = number;
			int rc;
			do {
				fill(b, size);
				rc = shmring_try_send(&ring, b, size, id);
				number += rc == SHMRING_OK;
			} while (rc == SHMRING_OK);
			printf("%llu, then %s\n", (unsigned long long)(number - first), shmring_text(rc));
		} else if (strcmp(word, "meta") == 0) {
			printf("%s\n", shmring_text(shmring_try_send(&ring, b, 0, (uint64_t)1 << 39)));
		} else if (strcmp(word, "held") == 0) {
			hold(size, until_told);
			int rc = shmring_try_send(&ring, held, size, id);
			number += rc == SHMRING_OK;
			printf("%s\n", shmring_text(rc));
		} else if (strcmp(word, "alive") == 0) {
			printf("%d\n", shmring_consumer_alive(&ring));
		} else if (strcmp(word, "fork") == 0) { /* the child stays until it is killed */
			pid_t child = fork();
			if (child == 0) {
				alarm(60);
				pause();
			}
			printf("%d\n", (int)child);
		} else if (strcmp(word, "close") == 0) {
			shmring_close(&ring);
			printf("%s\n", shmring_text(shmring_try_send(&ring, b, 1, 0)));
			shmring_close(&ring);
		} else {
			return 2;
		}
	}
	return 0;
}

#if defined(__x86_64__)
#define breakpoint() __asm__ volatile("int3" ::: "memory")
#else
#define breakpoint() raise(SIGTRAP)
#endif

static int life(char **argv)
{
	static unsigned char b[1 << 16];
	size_t size = strtoull(argv[3], NULL, 10);
	fill(b, size);
	breakpoint();
	int rc = attach(argv[1]);
	if (rc == SHMRING_OK)
		rc = shmring_send(&ring, b, size, id, atoi(argv[4]));
	if (write(1, rc == SHMRING_OK ? "+" : "-", 1) != 1)
		return 3;
	shmring_close(&ring);
	breakpoint();
	return 0;
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	id = (uint32_t)strtoul(argv[3], NULL, 10);
	if (strcmp(argv[1], "life") == 0 && argc == 6)
		return life(argv + 1);
	if (attach(argv[2]) != SHMRING_OK)
		return 1;
	if (strcmp(argv[1], "stress") == 0 && argc == 6)
		return stress(argv + 3);
	return strcmp(argv[1], "obey") == 0 ? obey() : 2;
}
