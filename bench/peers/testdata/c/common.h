/* What the programs here share: processes on chosen processors, a clock, a
 * barrier, percentiles, and figures on standard output as one JSON object. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef uint8_t u8;
typedef uint32_t u32;
typedef int32_t i32;
typedef uint64_t u64;
typedef int64_t i64;

#define OWN_LINES __attribute__((aligned(128))) /* neighbouring lines are fetched in pairs */
#define load_relaxed(p) atomic_load_explicit(p, memory_order_relaxed)
#define load_acquire(p) atomic_load_explicit(p, memory_order_acquire)
#define store_relaxed(p, v) atomic_store_explicit(p, v, memory_order_relaxed)
#define store_release(p, v) atomic_store_explicit(p, v, memory_order_release)

static void die(const char *what) {
	perror(what);
	exit(1);
}

static u64 now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

/* ticks is the cheapest clock that there is; ticks_per_ns is measured at start. */
#if defined __x86_64__
static inline u64 ticks(void) {
	u32 low, high;
	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high)::"memory");
	return (u64)high << 32 | low;
}
static inline void pause_once(void) { __builtin_ia32_pause(); }
#else
static inline u64 ticks(void) { return now(); }
static inline void pause_once(void) { __asm__ volatile("yield" ::: "memory"); }
#endif

static double ticks_per_ns;
static int pauses_in_5us;

__attribute__((constructor)) static void calibrate(void) {
	u64 t = now(), c = ticks();
	while (now() - t < 5000000)
		;
	ticks_per_ns = (double)(ticks() - c) / (double)(now() - t);
	t = now();
	for (int i = 0; i < 10000; i++)
		pause_once();
	pauses_in_5us = 5000 * 10000 / (int)(now() - t) + 1;
}

static void pin(int cpu) {
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof set, &set))
		die("sched_setaffinity");
}

/* child starts a process on a processor that does not outlive this one. */
static pid_t child(int cpu) {
	fflush(stdout);
	pid_t pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pin(cpu);
	}
	return pid;
}

/* join waits for all children, which must have ended well. */
static void join(void) {
	int status;
	while (wait(&status) > 0)
		if (status) {
			fprintf(stderr, "a process ended with status %d\n", status);
			exit(1);
		}
}

static void *shared(size_t size) {
	void *p = mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

static int futex(_Atomic u32 *word, int op, u32 value) { return syscall(SYS_futex, word, op, value, 0, 0, 0); }

/* barrier lets nobody through before n have come. */
static void barrier(_Atomic u64 *count, u64 n) {
	atomic_fetch_add(count, 1);
	for (int k = 0; atomic_load(count) < n;)
		if (++k > 1000)
			sched_yield(), k = 0;
}

/* figures prints "key":value pairs; samples sorts and adds percentiles. */
static void figure(const char *key, double value) {
	static int some;
	printf("%s\"%s\":%.6g", some++ ? "," : "{", key, value);
}
static void figures_end(void) { puts("}"); }

static int compare(const void *a, const void *b) {
	u32 x = *(const u32 *)a, y = *(const u32 *)b;
	return x < y ? -1 : x > y;
}

static void samples(u32 *s, u64 n) {
	qsort(s, n, sizeof *s, compare);
	figure("p50", s[n / 2]);
	figure("p99", s[(u64)(n * .99)]);
	figure("p999", s[(u64)(n * .999)]);
	figure("max", s[n - 1]);
}

/* number and word read arguments of the form key=value. */
static const char *word(char **argv, const char *key, const char *otherwise) {
	size_t len = strlen(key);
	for (; *argv; argv++)
		if (!strncmp(*argv, key, len) && (*argv)[len] == '=')
			return *argv + len + 1;
	return otherwise;
}
static u64 number(char **argv, const char *key, u64 otherwise) {
	const char *w = word(argv, key, 0);
	return w ? strtoull(w, 0, 10) : otherwise;
}
