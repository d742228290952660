package sender

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"

	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
	"golang.org/x/sys/unix"
)

// EnvName is the environment variable by which a process is told its senders.
const EnvName = wire.EnvName

// HandOver prepares cmd, which has not been started, to be the process that starts this Sender: it appends
// the segment's file to cmd.ExtraFiles, once for all senders of a router, and adds the token to the
// environment variable EnvName in cmd.Env, which becomes a copy of this process's environment if it is nil.
// The worker finds its senders by FromEnv or AllFromEnv. Several senders, also of several routers, may be
// handed to one command.
//
// The file belongs to cmd: whoever starts it may close it afterwards, or leave that to the garbage collector.
// The Sender cannot be used here any more.
//
// The error is a *StateError unless the Sender is initial, which it still is after any other error, as cmd is
// what it was; ErrStarted; ErrTooManySenders; shm.ErrNoFile for a segment on the heap; ErrRouterGone if its
// ring is closed.
func (s *Sender) HandOver(cmd *exec.Cmd) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != StateInitial {
		return &StateError{"hand over", s.state}
	}
	if cmd.Process != nil {
		return ErrStarted
	}
	f, err := s.ring().File()
	if errors.Is(err, os.ErrClosed) {
		err = fmt.Errorf("%w: %w", ErrRouterGone, err)
	}
	if err != nil {
		return during("hand over", err)
	}
	t := s.token
	files := withFile(cmd.ExtraFiles, f, &t)
	env, err := withToken(cmd.Env, t)
	if err != nil {
		f.Close()
		return err
	}
	if len(files) == len(cmd.ExtraFiles) {
		f.Close() // it is there
	}
	cmd.ExtraFiles, cmd.Env = files, env
	s.state = StateHandedOver
	if s.ctx != nil {
		s.end(&StateError{"wait", StateHandedOver})
	}
	if s.link != nil {
		return s.link.release()
	}
	return nil
}

// ring returns the segment's ring. The caller holds mu, and the Sender is initial.
func (s *Sender) ring() *ring.Ring {
	if s.home != nil {
		return s.home
	}
	return s.link.ring
}

// withFile returns files with f's file among them, and tells t where.
func withFile(files []*os.File, f *os.File, t *wire.Token) []*os.File {
	if mine, err := f.Stat(); err == nil {
		for i, other := range files {
			if other == nil {
				continue
			}
			if theirs, err := other.Stat(); err == nil && os.SameFile(mine, theirs) {
				t.FD = 3 + i
				return files
			}
		}
	}
	t.FD = 3 + len(files)
	return append(slices.Clone(files), f)
}

// withToken returns the environment with t in it. The error is ErrTooManySenders.
func withToken(env []string, t wire.Token) ([]string, error) {
	if env == nil {
		for _, v := range os.Environ() {
			if !strings.HasPrefix(v, EnvName+"=") && !strings.HasPrefix(v, wire.EnvLifeline+"=") {
				env = append(env, v) // but not what is ours, where we are a worker
			}
		}
	}
	env = slices.Clone(env)
	variable, at := EnvName+"="+t.String(), len(env)
	for i := len(env) - 1; i >= 0; i-- { // the last one counts
		if before, ok := strings.CutPrefix(env[i], EnvName+"="); ok && before != "" {
			variable, at = env[i]+","+t.String(), i
			break
		}
	}
	if limit := 32 * os.Getpagesize(); len(variable) >= limit { // the kernel's MAX_ARG_STRLEN, with a zero at the end
		return nil, fmt.Errorf("%w: the environment variable %s would take %d bytes, and the kernel takes %d",
			ErrTooManySenders, EnvName, len(variable), limit-1)
	}
	if at == len(env) {
		return append(env, variable), nil
	}
	env[at] = variable
	return env, nil
}

// Token returns a text by which an unrelated process, of a user who may open the segment's file, gets this
// Sender from Open. It is not disabled here: of all that are made from one token, one can be started. The
// error is a *StateError unless the Sender is initial, and shm.ErrNoPath if the segment has no path.
func (s *Sender) Token() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != StateInitial {
		return "", &StateError{"make a token", s.state}
	}
	t := s.token
	t.FD = 0
	if t.Path == "" {
		t.Path = s.ring().Segment().Path()
	}
	if t.Path == "" {
		return "", fmt.Errorf("sender: token: %w", shm.ErrNoPath)
	}
	return t.String(), nil
}

// FromEnv returns the Sender that was handed to this process, and removes the variable EnvName from the
// environment, so that this process's own children do not find it. Call it once, early, before anything else
// opens or closes descriptors that it does not own.
//
// The error is ErrNoHandover if the process was not started by a router, or has called this before;
// ErrBadHandover; ErrOtherRouter; ErrRouterGone if the router was stopped meanwhile. If several senders were
// handed over, it is ErrManySenders, and the variable stays, for AllFromEnv. It also stays where the process
// has no descriptor or memory to spare (unix.EMFILE, ENFILE, ENOMEM): once it has, the same call works.
func FromEnv() (*Sender, error) {
	ss, err := fromEnv(1)
	if err != nil {
		return nil, err
	}
	return ss[0], nil
}

// AllFromEnv is FromEnv for any number of senders, at least one, in the order in which they were handed over. The
// errors are FromEnv's but ErrManySenders.
func AllFromEnv() ([]*Sender, error) { return fromEnv(wire.MaxPipes) }

// taken remembers that the variable was there, for a better answer to the second who asks.
var taken struct {
	mu   sync.Mutex
	once bool
}

func fromEnv(most int) ([]*Sender, error) {
	taken.mu.Lock()
	defer taken.mu.Unlock()
	text := os.Getenv(EnvName)
	switch {
	case text == "" && taken.once:
		return nil, fmt.Errorf("%w that was not taken before, the environment variable %s having been read",
			ErrNoHandover, EnvName)
	case text == "":
		return nil, fmt.Errorf("%w: the environment variable %s is not set, so start this program by a router's "+
			"Launch, by a router.Command, or by an exec.Cmd prepared with HandOver, and not by hand", ErrNoHandover, EnvName)
	}
	tokens, err := wire.ParseTokens(text)
	if err == nil && len(tokens) > most {
		return nil, fmt.Errorf("%w: the environment variable %s names %d senders, use AllFromEnv",
			ErrManySenders, EnvName, len(tokens))
	}
	var ss []*Sender
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrBadHandover, err)
	} else {
		ss, err = receive(tokens)
	}
	if !isScarcity(err) {
		taken.once = true
		os.Unsetenv(EnvName)
		takeLifeline()
	}
	if err != nil {
		return nil, during("environment variable "+EnvName, err)
	}
	return ss, nil
}

// isScarcity reports whether an error may pass by itself: it says nothing about what was handed over.
func isScarcity(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}

// receive makes a Sender of each token, or of none. In any case it closes the inherited descriptors of those
// that it could make, except where the process lacks something, as the next call will need them. One of which
// no Sender was made stays open: it may be somebody else's.
func receive(tokens []wire.Token) (ss []*Sender, err error) {
	ours := make(map[int]bool) // by token, seen to be what was handed over; the rings have duplicates
	defer func() {
		if isScarcity(err) {
			return
		}
		for fd := range ours {
			unix.Close(fd)
		}
	}()
	for _, t := range tokens {
		l, err := reach(t)
		if err != nil {
			for _, s := range ss {
				s.link.release()
			}
			return nil, err
		}
		if t.FD != 0 {
			ours[t.FD] = true
		}
		ss = append(ss, &Sender{token: t, link: l})
	}
	return ss, nil
}

// reach opens the segment that a token leads to, or another reference to it, and checks that it is the one
// meant.
func reach(t wire.Token) (*link, error) {
	r, err := openToken(t)
	if err != nil {
		return nil, err
	}
	l, err := linkTo(r, true)
	if err != nil {
		return nil, err
	}
	if t.FD != 0 && l.ring.Identity() == t.Identity {
		unix.CloseOnExec(t.FD) // not before it is known to be ours
	}
	if err := l.check(t); err != nil {
		l.release()
		return nil, err
	}
	return l, nil
}

func openToken(t wire.Token) (*ring.Ring, error) {
	switch {
	case t.FD != 0:
		return openFD(t.FD)
	case t.Path != "":
		r, err := ring.OpenPath(t.Path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: %w", ErrRouterGone, err)
		}
		if err != nil {
			return nil, blame(err)
		}
		return r, nil
	}
	return nil, fmt.Errorf("%w: the token names neither a descriptor nor a path", ErrBadHandover)
}

// blame puts an error down to the hand-over, unless the process lacks something.
func blame(err error) error {
	if isScarcity(err) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrBadHandover, err)
}

func openFD(fd int) (*ring.Ring, error) {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	switch {
	case errors.Is(err, unix.EBADF):
		return nil, fmt.Errorf("%w: descriptor %d is not open: it was not in the command's ExtraFiles, "+
			"or did not get through what came between: %w", ErrBadHandover, fd, os.NewSyscallError("fcntl", err))
	case errors.Is(err, unix.EINVAL): // not even 3 is within RLIMIT_NOFILE
		err = unix.EMFILE
	}
	if err != nil {
		return nil, blame(fmt.Errorf("descriptor %d: %w", fd, os.NewSyscallError("fcntl", err)))
	}
	f := os.NewFile(uintptr(dup), fmt.Sprintf("%s descriptor %d", EnvName, fd))
	defer f.Close()
	r, err := ring.OpenFile(f)
	if err != nil {
		return nil, blame(fmt.Errorf("descriptor %d: %w", fd, err))
	}
	return r, nil
}

// Open returns the Sender that a token from Sender.Token names, in its initial state. Its errors are those of
// FromEnv, except ErrNoHandover; ErrRouterGone also if there is nothing at the path.
func Open(token string) (*Sender, error) {
	t, err := wire.ParseToken(token)
	if err == nil && t.FD != 0 {
		err = errors.New("it is meant for the environment of a worker")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadHandover, err)
	}
	l, err := reach(t)
	if err != nil {
		return nil, during("open", err)
	}
	return &Sender{token: t, link: l}, nil
}
