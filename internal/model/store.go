package model

import "hash/maphash"

// store numbers the states seen in the order of their discovery. It knows a state by 96 bits of two hashes and keeps
// 16 bytes for it, not its value. Among n states two are taken for one with probability n²/2⁹⁷: 10⁻¹⁴ for 40 million.
// Seeds are new in each run, so a run that took two for one would find other counts than docs/model.md has.
type store struct {
	seeds [2]maphash.Seed
	n     uint32
	table []entry // linear probing
}

type entry struct {
	a  uint64
	b  uint32
	id uint32 // number+1, 0 = free
}

func newStore() *store {
	return &store{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, table: make([]entry, 1<<16)}
}

// add returns the state's number, and whether it is new.
func (st *store) add(s *state) (id uint32, fresh bool) {
	a, b := maphash.Comparable(st.seeds[0], *s), uint32(maphash.Comparable(st.seeds[1], *s))
	mask := uint64(len(st.table) - 1)
	k := a & mask
	for ; st.table[k].id != 0; k = (k + 1) & mask {
		if e := &st.table[k]; e.a == a && e.b == b {
			return e.id - 1, false
		}
	}
	id = st.n
	st.n++
	st.table[k] = entry{a, b, st.n}
	if int(st.n) > len(st.table)*7/10 {
		st.grow()
	}
	return id, true
}

func (st *store) grow() {
	old := st.table
	st.table = make([]entry, 2*len(old))
	mask := uint64(len(st.table) - 1)
	for _, e := range old {
		if e.id == 0 {
			continue
		}
		k := e.a & mask
		for st.table[k].id != 0 {
			k = (k + 1) & mask
		}
		st.table[k] = e
	}
}

// chunk is the number of states that are allocated together.
const chunk = 1 << 10

// queue holds the states that are still to be visited, in the order of their numbers.
type queue struct {
	chunks []*[chunk]state
	first  int // in chunks[0]
	n      int
	spare  *[chunk]state
}

func (q *queue) push(s *state) {
	at := q.first + q.n
	if at == len(q.chunks)*chunk {
		if q.spare == nil {
			q.spare = new([chunk]state)
		}
		q.chunks, q.spare = append(q.chunks, q.spare), nil
	}
	q.chunks[at/chunk][at%chunk] = *s
	q.n++
}

// pop takes the oldest state out; it is valid until the next pop.
func (q *queue) pop() *state {
	if q.first == chunk {
		q.spare, q.chunks, q.first = q.chunks[0], q.chunks[1:], 0
	}
	s := &q.chunks[0][q.first]
	q.first++
	q.n--
	return s
}
