package main

import (
	"fmt"
	"hash/fnv"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/bench"
)

func init() {
	addPeer(&peer{name: "mq", title: "POSIX message queue", open: openQueue, most: queueSize,
		how: "mq_timedsend and mq_timedreceive, which block; 10 messages of at most 8 KiB, the limits that a process has without privileges."})
}

const (
	queueLength = 10
	queueSize   = 8 << 10
)

// queueLink is a message queue each way. Both ends create and open them; the
// receiver removes the names when a message shows that the sender has them.
type queueLink struct {
	in, out int
	names   []string
	buf     []byte
}

type queueAttr struct {
	flags, maxmsg, msgsize, curmsgs int
	_                               [4]int
}

func openQueue(p *bench.Post, e end) (link, error) {
	h := fnv.New64()
	h.Write([]byte(p.Dir))
	base := fmt.Sprintf("shmrouter-peers-%x-%d-", h.Sum64(), e.sender)
	l := &queueLink{buf: make([]byte, queueSize)}
	ends := []*int{&l.out, &l.in}
	if p.Receiver {
		ends = []*int{&l.in, &l.out}
	}
	for i, way := range []string{"up", "down"} {
		fd, err := queueOpen(base + way)
		if err != nil {
			return nil, err
		}
		*ends[i] = fd
		l.names = append(l.names, base+way)
	}
	return l, nil
}

func queueOpen(name string) (int, error) {
	s, err := unix.BytePtrFromString(strings.TrimPrefix(name, "/"))
	if err != nil {
		return -1, err
	}
	attr := queueAttr{maxmsg: queueLength, msgsize: queueSize}
	fd, _, errno := unix.Syscall6(unix.SYS_MQ_OPEN, uintptr(unsafe.Pointer(s)),
		unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600, uintptr(unsafe.Pointer(&attr)), 0, 0)
	if errno != 0 {
		return -1, os.NewSyscallError("mq_open", errno)
	}
	return int(fd), nil
}

func (l *queueLink) send(b []byte) error {
	for {
		_, _, errno := unix.Syscall6(unix.SYS_MQ_TIMEDSEND, uintptr(l.out),
			uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0, 0, 0)
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return os.NewSyscallError("mq_timedsend", errno)
		}
	}
}

func (l *queueLink) sendBatch(msgs [][]byte) error { return eachOf(l, msgs) }

func (l *queueLink) receive(n uint64, s *sequence) error {
	for n > 0 {
		size, _, errno := unix.Syscall6(unix.SYS_MQ_TIMEDRECEIVE, uintptr(l.in),
			uintptr(unsafe.Pointer(unsafe.SliceData(l.buf))), uintptr(len(l.buf)), 0, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return os.NewSyscallError("mq_timedreceive", errno)
		}
		l.unlink()
		if err := s.check(l.buf[:size]); err != nil {
			return err
		}
		n--
	}
	return nil
}

// unlink removes the names once. Queues live on until they are closed.
func (l *queueLink) unlink() {
	for _, name := range l.names {
		if s, err := unix.BytePtrFromString(name); err == nil {
			unix.Syscall(unix.SYS_MQ_UNLINK, uintptr(unsafe.Pointer(s)), 0, 0)
		}
	}
	l.names = nil
}
