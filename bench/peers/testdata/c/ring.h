/* Two rings for many producers and one consumer, as fast as is known, for
 * comparison: neither knows whose a claim is, so neither survives the death of
 * a producer.
 *
 * RING_AGRONA: variable length. A producer moves the tail by compare-and-swap,
 * writes the record's negative length, the payload, and then the length; the
 * consumer zeroes what it has read, so that a length of 0 means nothing yet.
 *
 * RING_SLOTS: fixed slots of 128 bytes after Vyukov, each with a sequence
 * number; a producer takes a ticket by fetch-and-add and waits for its slot. */

typedef struct {
	_Atomic u64 tail OWN_LINES;
	_Atomic u64 head_cache OWN_LINES; /* an older head, shared by the producers */
	_Atomic u64 head OWN_LINES;
	_Atomic u32 asleep OWN_LINES;
	_Atomic u32 bell;
} ring_control;

typedef struct {
	ring_control *control;
	u8 *data;
	u64 capacity, mask;
} ring;

#define SLOT 128u

static ring ring_new(u64 capacity) {
	ring r = {shared(4096), shared(capacity), capacity, capacity - 1};
#if RING_SLOTS
	for (u64 i = 0; i < capacity / SLOT; i++)
		*(u64 *)(r.data + i * SLOT) = i;
#endif
	return r;
}

typedef void ring_handler(void *context, const u8 *payload, u32 size);

#define ALWAYS_INLINE static inline __attribute__((always_inline))

#if RING_AGRONA

#define RECORD_HEADER 8u
#define PADDING (-1)

static u64 ring_record(u32 size) { return (size + RECORD_HEADER + 7) & ~7ull; }

/* Room is compared signed: head_cache may be older than the tail's last lap. */
ALWAYS_INLINE int ring_has_room(ring *r, u64 need, u64 tail, u64 *head) {
	if ((i64)need <= (i64)(r->capacity - (tail - *head)))
		return 1;
	*head = load_acquire(&r->control->head);
	if ((i64)need > (i64)(r->capacity - (tail - *head)))
		return 0;
	store_relaxed(&r->control->head_cache, *head);
	return 1;
}

ALWAYS_INLINE int ring_write(ring *r, const void *payload, u32 size) {
	ring_control *c = r->control;
	i32 length = size + RECORD_HEADER;
	u64 need = ring_record(size), at, padding;
	u64 head = load_relaxed(&c->head_cache), tail = load_relaxed(&c->tail);
	do {
		if (!ring_has_room(r, need, tail, &head))
			return 0;
		at = tail & r->mask;
		padding = 0;
		if (need > r->capacity - at) {
			padding = r->capacity - at;
			if (!ring_has_room(r, need + padding, tail, &head))
				return 0;
		}
	} while (!atomic_compare_exchange_weak_explicit(&c->tail, &tail, tail + need + padding, memory_order_acq_rel,
							memory_order_relaxed));
	if (padding) {
		u8 *p = r->data + at;
		((i32 *)p)[1] = PADDING;
		store_release((_Atomic i32 *)p, (i32)padding);
		at = 0;
	}
	u8 *p = r->data + at;
	store_relaxed((_Atomic i32 *)p, -length);
	atomic_thread_fence(memory_order_release);
	memcpy(p + RECORD_HEADER, payload, size);
	((i32 *)p)[1] = 1;
	store_release((_Atomic i32 *)p, length);
	return 1;
}

ALWAYS_INLINE u32 ring_read(ring *r, u32 limit, ring_handler *handle, void *context) {
	ring_control *c = r->control;
	u64 head = load_relaxed(&c->head), at = head & r->mask, most = r->capacity - at, bytes = 0;
	u32 n = 0;
	while (bytes < most && n < limit) {
		u8 *p = r->data + at + bytes;
		i32 length = load_acquire((_Atomic i32 *)p);
		if (length <= 0)
			break;
		bytes += ((u64)length + 7) & ~7ull;
		if (((i32 *)p)[1] == PADDING)
			continue;
		handle(context, p + RECORD_HEADER, length - RECORD_HEADER);
		n++;
	}
	if (bytes) {
		memset(r->data + at, 0, bytes);
		store_release(&c->head, head + bytes);
	}
	return n;
}

#elif RING_SLOTS

#define SLOT_PAYLOAD 16u

static u64 ring_record(u32 size) { return (void)size, SLOT; }

ALWAYS_INLINE int ring_write(ring *r, const void *payload, u32 size) {
	u64 ticket = atomic_fetch_add_explicit(&r->control->tail, 1, memory_order_relaxed);
	u8 *p = r->data + ticket % (r->capacity / SLOT) * SLOT;
	for (int k = 0; load_acquire((_Atomic u64 *)p) != ticket;)
		if (++k > 200)
			sched_yield(), k = 0;
		else
			pause_once();
	*(u32 *)(p + 8) = size;
	memcpy(p + SLOT_PAYLOAD, payload, size);
	store_release((_Atomic u64 *)p, ticket + 1);
	return 1;
}

ALWAYS_INLINE u32 ring_read(ring *r, u32 limit, ring_handler *handle, void *context) {
	u64 head = load_relaxed(&r->control->head), slots = r->capacity / SLOT;
	u32 n = 0;
	for (; n < limit; n++, head++) {
		u8 *p = r->data + head % slots * SLOT;
		if (load_acquire((_Atomic u64 *)p) != head + 1)
			break;
		handle(context, p + SLOT_PAYLOAD, *(u32 *)(p + 8));
		store_release((_Atomic u64 *)p, head + slots);
	}
	if (n)
		store_release(&r->control->head, head);
	return n;
}

#endif

/* ring_send and ring_await add sleeping: announce, look again, sleep. */
ALWAYS_INLINE void ring_send(ring *r, const void *payload, u32 size) {
	while (!ring_write(r, payload, size))
		;
	atomic_thread_fence(memory_order_seq_cst);
	if (load_relaxed(&r->control->asleep)) {
		store_relaxed(&r->control->asleep, 0);
		atomic_fetch_add(&r->control->bell, 1);
		futex(&r->control->bell, FUTEX_WAKE, 1);
	}
}

ALWAYS_INLINE void ring_await(ring *r, ring_handler *handle, void *context) {
	while (!ring_read(r, 1, handle, context)) {
		u32 bell = atomic_load(&r->control->bell);
		atomic_store(&r->control->asleep, 1);
		if (ring_read(r, 1, handle, context)) {
			atomic_store(&r->control->asleep, 0);
			return;
		}
		futex(&r->control->bell, FUTEX_WAIT, bell);
	}
}
