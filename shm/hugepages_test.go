package shm

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// meminfo is a line of /proc/meminfo.
func meminfo(t *testing.T, name string) (n int64) {
	t.Helper()
	text, err := os.ReadFile("/proc/meminfo")
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			_, err := fmt.Sscan(rest, &n)
			require.NoError(t, err)
		}
	}
	return n
}

// reservedPages are those that nobody has yet.
func reservedPages(t *testing.T) int64 {
	if meminfo(t, "Hugepagesize") != hugePage>>10 {
		return 0
	}
	return meminfo(t, "HugePages_Free") - meminfo(t, "HugePages_Rsvd")
}

// What a segment has to do is the same on pages of either kind.
func checkHugeSegment(t *testing.T, s *Segment) {
	require.Equal(t, Memfd, s.Kind())
	s.Word64(0).Store(1)
	s.Bytes()[s.Size()-1] = 7

	f, err := s.File()
	require.NoError(t, err)
	defer f.Close()
	for _, size := range []int64{0, s.Size() - int64(s.PageSize()), s.Size() + int64(s.PageSize())} {
		require.ErrorIs(t, f.Truncate(size), unix.EPERM)
	}
	again, err := FromFile(f)
	require.NoError(t, err)
	require.Equal(t, s.PageSize(), again.PageSize())
	require.Equal(t, s.Size(), again.Size())
	require.Equal(t, byte(7), again.Bytes()[s.Size()-1])
	require.NoError(t, again.Close())

	w := startWorker(t, "inherit", "", nil, f)
	require.Equal(t, "memfd huge "+s.Identity(), w.expect("segment"))
	w.finish()
	require.Equal(t, uint64(1), s.Word64(64).Load())

	// The page that keeps a description alive is of the same kind.
	locks, err := s.OpenLocks()
	require.NoError(t, err)
	ok, err := locks.TryLock(3)
	require.NoError(t, err)
	require.True(t, ok)
	others, err := s.OpenLocks()
	require.NoError(t, err)
	held, err := others.Held(3)
	require.NoError(t, err)
	require.True(t, held)
	require.NoError(t, locks.Close())
	held, err = others.Held(3)
	require.NoError(t, err)
	require.False(t, held)
	require.NoError(t, others.Close())

	require.NoError(t, s.Close())
}

func TestHugeMemfdReserved(t *testing.T) {
	if reservedPages(t) < 8 {
		t.Skip("needs 8 free huge pages; root makes some: sysctl vm.nr_hugepages=16")
	}
	noLeaks(t)
	before := meminfo(t, "HugePages_Free") // whether or not somebody may be given them
	s, err := NewHugeMemfd("huge", 2*page, page)
	require.NoError(t, err)
	require.Equal(t, hugePage, s.PageSize())
	require.Equal(t, int64(hugePage), s.Size())
	checkHugeSegment(t, s)

	s, err = NewHugeMemfd("huge", hugePage+page, 0)
	require.NoError(t, err)
	require.Equal(t, int64(2*hugePage), s.Size())
	require.Equal(t, before-2, meminfo(t, "HugePages_Free"), "all its pages are there, or a fault might not find one")
	require.NoError(t, s.Close())
	require.Equal(t, before, meminfo(t, "HugePages_Free"))
}

// More than there are is no error: it is made of other pages, and none of the reserved ones is lost.
func TestHugeMemfdNotEnough(t *testing.T) {
	before := reservedPages(t)
	if before > 512 {
		t.Skip("more than a gigabyte of huge pages: too many to ask for more")
	}
	noLeaks(t)
	size := (before+1)*hugePage + page
	s, err := NewHugeMemfd("huge", size, 3*page)
	require.NoError(t, err)
	require.Equal(t, size, s.Size())
	require.Equal(t, os.Getpagesize(), s.PageSize())
	require.Equal(t, before, reservedPages(t))
	checkHugeSegment(t, s)
}

func TestHugeMemfdAdvised(t *testing.T) {
	const setting = "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
	if text, err := os.ReadFile(setting); err != nil || !strings.Contains(string(text), "[advise]") {
		t.Skip("needs advise in " + setting)
	}
	size := (reservedPages(t) + 9) * hugePage
	before := meminfo(t, "ShmemHugePages")
	s, err := NewHugeMemfd("huge", size, 8*hugePage)
	require.NoError(t, err)
	require.GreaterOrEqual(t, meminfo(t, "ShmemHugePages")-before, int64(hugePage>>10), "at least one of eight, as far as memory is in one piece")
	checkHugeSegment(t, s)
}

func TestHugeMemfdErrors(t *testing.T) {
	for _, bad := range []struct{ size, reserve int64 }{{0, 0}, {-page, 0}, {page + 1, 0}, {page, -1}, {page, page + 1}} {
		_, err := NewHugeMemfd("huge", bad.size, bad.reserve)
		requireOnly(t, err, ErrSize)
	}
	_, err := NewHugeMemfd(strings.Repeat("x", 300), page, 0)
	require.True(t, errors.Is(err, unix.EINVAL), "%v", err)
}
