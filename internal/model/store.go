package model

import "hash/maphash"

// chunk is the number of states that are allocated together.
const chunk = 1 << 14

// store holds the states seen, numbered in the order of their discovery, and finds a state's number by a hash table of
// numbers alone: a state costs its own size and some six bytes.
type store struct {
	seed   maphash.Seed
	chunks [][]state
	n      uint32
	table  []uint32 // number+1, 0 = free; linear probing
}

func newStore() *store {
	return &store{seed: maphash.MakeSeed(), table: make([]uint32, 1<<16)}
}

func (st *store) at(id uint32) *state { return &st.chunks[id/chunk][id%chunk] }

// add returns the state's number, and whether it is new.
func (st *store) add(s *state) (id uint32, fresh bool) {
	mask := uint64(len(st.table) - 1)
	k := maphash.Comparable(st.seed, *s) & mask
	for st.table[k] != 0 {
		if id = st.table[k] - 1; *st.at(id) == *s {
			return id, false
		}
		k = (k + 1) & mask
	}
	id = st.n
	if id%chunk == 0 {
		st.chunks = append(st.chunks, make([]state, chunk))
	}
	*st.at(id) = *s
	st.table[k] = id + 1
	st.n++
	if int(st.n) > len(st.table)*7/10 {
		st.grow()
	}
	return id, true
}

func (st *store) grow() {
	st.table = make([]uint32, 2*len(st.table))
	mask := uint64(len(st.table) - 1)
	for id := range st.n {
		k := maphash.Comparable(st.seed, *st.at(id)) & mask
		for st.table[k] != 0 {
			k = (k + 1) & mask
		}
		st.table[k] = id + 1
	}
}
