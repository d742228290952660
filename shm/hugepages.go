package shm

import (
	"os"

	"golang.org/x/sys/unix"
)

// hugePage is the size asked for: the other common one, 1 GiB, is more than a segment is worth.
const hugePage = 2 << 20

// NewHugeMemfd is NewMemfd on huge pages, if they can be had. There are two ways, and both are the
// administrator's to open:
//
//   - Pages that were reserved (/proc/sys/vm/nr_hugepages). If there are enough, the size is rounded
//     up to 2 MiB, all of it, not only the first reserve bytes, has its pages from the start, and
//     PageSize tells.
//   - Otherwise the kernel is advised to make the first reserve bytes of huge pages, which it heeds
//     where /sys/kernel/mm/transparent_hugepage/shmem_enabled says "advise". What came of that shows
//     in ShmemHugePages of /proc/meminfo, and nowhere else.
//
// Without either it is NewMemfd, and the errors are the same.
func NewHugeMemfd(name string, size, reserve int64) (_ *Segment, err error) {
	defer wrapf(&err, "create memfd %q", name)
	if err := checkReserve(size, reserve); err != nil {
		return nil, err
	}
	// All pages at once: a reservation alone can still fail at the first touch, by a control
	// group's limit, and that is a SIGBUS.
	whole := (size + hugePage - 1) &^ (hugePage - 1)
	if s, err := newMemfd(name, whole, whole, unix.MFD_HUGETLB|unix.MFD_HUGE_2MB, nil); err == nil {
		return s, nil
	}
	return newMemfd(name, size, reserve, 0, touchHuge)
}

// touchHuge touches the first reserve bytes of a file through a mapping with the advice. fallocate
// would give them small pages, for it knows of no mapping. Nothing here has to work: what it leaves
// undone is allocated afterwards, with an error if there is no room.
func touchHuge(fd int, size, reserve int64) {
	mem, err := unix.Mmap(fd, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return
	}
	defer unix.Munmap(mem)
	if reserve > 0 && unix.Madvise(mem, unix.MADV_HUGEPAGE) == nil {
		unix.Madvise(mem[:reserve], unix.MADV_POPULATE_WRITE)
	}
}

// filePageSize is the unit in which the pages of a file are mapped and unmapped.
func filePageSize(fd int) int {
	var st unix.Statfs_t
	if unix.Fstatfs(fd, &st) == nil && st.Type == unix.HUGETLBFS_MAGIC {
		return int(st.Bsize)
	}
	return os.Getpagesize()
}

// PageSize returns the size of the pages that the memory is made of: more than os.Getpagesize where
// NewHugeMemfd, here or in another process, found reserved ones. Huge pages that the kernel makes of
// its own accord, or by advice, it does not know of.
func (s *Segment) PageSize() int { return s.pageSize }
