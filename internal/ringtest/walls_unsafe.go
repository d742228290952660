package ringtest

import (
	"os"
	"testing"
	"unsafe"

	"github.com/shmrouter/shmrouter/shm"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Walled makes a segment on a memory file, zeroed, whose mapping has a page
// that nobody may touch right before and right behind it: an access that
// leaves the segment is a fault. It is closed with the test.
func Walled(t testing.TB, size int64) *shm.Segment {
	t.Helper()
	// The kernel maps from high addresses to low ones, into the first hole that
	// fits. So the upper wall comes first and the segment into the space below
	// it; whatever else lands there is kept until one does not.
	page := uintptr(os.Getpagesize())
	for range 20 {
		reserved, err := unix.MmapPtr(-1, 0, nil, uintptr(size)+2*page, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON)
		require.NoError(t, err)
		upper := unsafe.Add(reserved, uintptr(size)+page)
		require.NoError(t, unix.MunmapPtr(reserved, uintptr(size)+page))
		seg, err := shm.NewMemfd("shmrouter", size, size)
		require.NoError(t, err)
		lower := unsafe.Add(seg.Base(), -int(page))
		_, err = unix.MmapPtr(-1, 0, lower, page, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_FIXED_NOREPLACE)
		if err == nil && unsafe.Add(seg.Base(), size) == upper {
			t.Cleanup(func() {
				require.NoError(t, seg.Close())
				require.NoError(t, unix.MunmapPtr(lower, page))
				require.NoError(t, unix.MunmapPtr(upper, page))
			})
			return seg
		}
		if err == nil {
			require.NoError(t, unix.MunmapPtr(lower, page))
		}
		t.Cleanup(func() {
			require.NoError(t, seg.Close())
			require.NoError(t, unix.MunmapPtr(upper, page))
		})
	}
	require.Fail(t, "no place between two walls")
	return nil
}
