package shm

import (
	"errors"
	"fmt"
	"os"
)

// What can be wrong with a file, found while a segment is created or opened. The standard meanings
// are used where there is one: fs.ErrExist, fs.ErrNotExist and fs.ErrPermission stay in the chain
// of every error returned.
var (
	// ErrSize says that a size is not a positive multiple of the page size, or does not fit this
	// machine.
	ErrSize = errors.New("size is not a positive multiple of the page size")

	// ErrEmpty says that an existing file has no bytes.
	ErrEmpty = errors.New("file is empty")

	// ErrNotRegular says that a path or descriptor is not a regular file: a symbolic link,
	// directory, device or pipe.
	ErrNotRegular = errors.New("not a regular file")

	// ErrNoSpace says that the file system cannot hold the whole segment, or a limit of this process
	// (RLIMIT_FSIZE, a quota) does not allow it: the chain has the cause. It is found out while the
	// segment is created, because a page that cannot be had later kills the process that touches
	// it.
	ErrNoSpace = errors.New("not enough space for the segment")
)

// What a segment of some kind does not have.
var (
	// ErrNoFile says that a heap segment has no file, hence nothing to hand to another process.
	ErrNoFile = errors.New("segment has no file")

	// ErrNoPath says that a segment has no path: it is on the heap or a memfd, or its file was
	// unlinked before it was inherited.
	ErrNoPath = errors.New("segment has no path")

	// ErrReadOnly says that a segment was mapped by View, which only looks.
	ErrReadOnly = errors.New("segment is mapped for reading only")

	// ErrReplaced says that the segment's path meanwhile names another file, which is left alone.
	ErrReplaced = errors.New("path now names another file")

	// ErrNoLocks says that byte locks cannot be had on this segment, so nobody could tell the
	// living from the dead. The text of the error that wraps it gives the reason, and its chain the
	// cause.
	ErrNoLocks = errors.New("byte locks are not available")
)

// What can happen while a segment is used.
var (
	// ErrFault says that memory of the segment could not be reached: somebody truncated the file.
	ErrFault = errors.New("memory of the segment is gone, its file was truncated")

	// ErrDeadline is os.ErrDeadlineExceeded, returned by FutexWait.
	ErrDeadline = os.ErrDeadlineExceeded
)

// wrapf prefixes *err, if there is one, with what was being done. It is meant to be deferred.
func wrapf(err *error, format string, args ...any) {
	if *err != nil {
		*err = fmt.Errorf("shm: "+format+": %w", append(args, *err)...)
	}
}
