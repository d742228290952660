package wire

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// EnvLifeline is the environment variable that tells a launched worker its lifeline: a pipe of which the router's
// process, and nobody else, holds the writing end. Nothing is ever written; its end is that process's. The text is
// the descriptor of the reading end and the pipe's inode, by which the worker knows it again:
//
//	4:81226
const EnvLifeline = "SHMROUTER_LIFELINE"

// LifelineVar returns the variable for a worker that inherits the reading end r as descriptor fd.
func LifelineVar(r *os.File, fd int) (string, error) {
	st, err := r.Stat()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s=%d:%d", EnvLifeline, fd, st.Sys().(*syscall.Stat_t).Ino), nil
}

// ParseLifeline reads the variable's text.
func ParseLifeline(s string) (fd int, inode uint64, err error) {
	left, right, found := strings.Cut(s, ":")
	if fd, err = strconv.Atoi(left); err == nil {
		inode, err = strconv.ParseUint(right, 10, 64)
	}
	if !found || err != nil || fd < 3 || fd > 1<<30 {
		return 0, 0, fmt.Errorf("wire: malformed lifeline %q", s)
	}
	return fd, inode, nil
}
