package sender

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
	"golang.org/x/sys/unix"
)

// setEnv hands tokens to this very process.
func setEnv(t *testing.T, tokens ...wire.Token) {
	t.Helper()
	var text []string
	for _, token := range tokens {
		text = append(text, token.String())
	}
	t.Setenv(EnvName, strings.Join(text, ","))
}

// inherit puts the router's file where exec would, without close-on-exec.
func (r *testRouter) inherit() int {
	f, err := r.ring.File()
	must(r.t, err)
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD, 3)
	must(r.t, err)
	return fd
}

func isOpen(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil
}

func TestFromEnv(t *testing.T) {
	r := newRouter(t, shm.Memfd)
	token := r.token()
	token.FD = r.inherit()
	setEnv(t, token)
	s, err := FromEnv()
	must(t, err)
	if _, ok := os.LookupEnv(EnvName); ok {
		t.Error("the variable is still there")
	}
	if isOpen(token.FD) {
		t.Error("the descriptor is still open")
	}
	if s.State() != StateInitial || s.ID() != token.ID {
		t.Errorf("%v, id %d", s.State(), s.ID())
	}
	_, err = FromEnv()
	wantErr(t, err, ErrNoHandover)
	if !strings.Contains(err.Error(), "before") {
		t.Errorf("second attempt: %v", err)
	}
	must(t, s.Start())
	must(t, s.TrySend([]byte("x")))
	// Both ways to the segment lead to the same seat.
	local := r.started()
	must(t, local.TrySend([]byte("y")))
	if got := r.poll(); len(got) != 2 || got[0].slot != got[1].slot {
		t.Errorf("%+v", got)
	}
	must(t, local.Stop())
	must(t, s.Stop())
}

// Each way in which a hand-over can be wrong has its own answer.
func TestFromEnvRefused(t *testing.T) {
	r, other := newRouter(t, shm.Memfd), newRouter(t, shm.Memfd)
	good := r.token()
	refused := func(t *testing.T, class error, part string) {
		t.Helper()
		s, err := FromEnv()
		wantErr(t, err, class)
		if s != nil {
			t.Error("and a Sender")
		}
		if err == nil || !strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q is not a sentence with %q", err, part)
		}
		for _, c := range []error{ErrNoHandover, ErrBadHandover, ErrOtherRouter, ErrRouterGone} {
			if errors.Is(err, c) != (c == class) {
				t.Errorf("%v is %v: %v", err, c, errors.Is(err, c))
			}
		}
	}
	t.Run("missing", func(t *testing.T) {
		t.Setenv(EnvName, "")
		taken.once = false
		refused(t, ErrNoHandover, "is not set, so start this program by a router")
	})
	t.Run("malformed", func(t *testing.T) {
		t.Setenv(EnvName, "shm1:f3:")
		refused(t, ErrBadHandover, "fields")
		if os.Getenv(EnvName) != "" {
			t.Error("the variable is still there")
		}
	})
	t.Run("nowhere", func(t *testing.T) {
		setEnv(t, good)
		refused(t, ErrBadHandover, "neither a descriptor nor a path")
	})
	t.Run("not open", func(t *testing.T) {
		token := good
		token.FD = 1 << 20
		setEnv(t, token)
		refused(t, ErrBadHandover, "is not open")
	})
	t.Run("a pipe", func(t *testing.T) {
		in, out, err := os.Pipe()
		must(t, err)
		defer in.Close()
		defer out.Close()
		token := good
		token.FD, err = unix.FcntlInt(in.Fd(), unix.F_DUPFD, 3)
		must(t, err)
		defer unix.Close(token.FD)
		setEnv(t, token)
		refused(t, ErrBadHandover, "regular file")
		if flags, err := unix.FcntlInt(uintptr(token.FD), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC != 0 {
			t.Errorf("a stranger's descriptor was closed or changed: %v, flags %x", err, flags)
		}
	})
	t.Run("a ring without directory", func(t *testing.T) {
		plain, err := ring.New(ring.Options{Capacity: testCapacity})
		must(t, err)
		defer plain.Close()
		f, err := plain.File()
		must(t, err)
		defer f.Close()
		token := good
		token.FD, token.Identity = int(f.Fd()), plain.Identity()
		setEnv(t, token)
		refused(t, ErrBadHandover, "directory")
	})
	t.Run("another router's", func(t *testing.T) {
		token := good
		token.FD = other.inherit()
		defer unix.Close(token.FD)
		setEnv(t, token)
		refused(t, ErrOtherRouter, "segment")
		if !isOpen(token.FD) {
			t.Error("a stranger's descriptor was closed")
		}
	})
	t.Run("an earlier start's", func(t *testing.T) {
		token := good
		token.FD = r.inherit()
		defer unix.Close(token.FD)
		token.Epoch++
		setEnv(t, token)
		refused(t, ErrRouterGone, "started anew")
	})
	t.Run("several", func(t *testing.T) {
		token := good
		token.FD = r.inherit()
		second := r.token()
		second.FD = token.FD
		setEnv(t, token, second)
		refused(t, ErrBadHandover, "2 senders")
		_, err := FromEnv()
		wantErr(t, err, ErrManySenders)
		ss, err := AllFromEnv() // for which they are still there
		must(t, err)
		if len(ss) != 2 || ss[0].ID() != good.ID || ss[1].ID() != second.ID || isOpen(token.FD) {
			t.Errorf("%d senders", len(ss))
		}
		for _, s := range ss {
			must(t, s.Start())
			must(t, s.Stop())
		}
	})
	t.Run("one of several", func(t *testing.T) {
		token := r.token()
		token.FD = r.inherit()
		bad := token
		bad.FD = 1 << 20
		setEnv(t, token, bad)
		_, err := AllFromEnv()
		wantErr(t, err, ErrBadHandover)
		if isOpen(token.FD) {
			t.Error("a descriptor is left")
		}
	})
	t.Run("stopped router's", func(t *testing.T) {
		token := r.token()
		token.FD = r.inherit()
		defer unix.Close(token.FD)
		setEnv(t, token)
		r.stop()
		refused(t, ErrRouterGone, "stopped")
	})
}

func TestOpenByPath(t *testing.T) {
	r := newRouter(t, shm.Named)
	made := r.pipe()
	text, err := made.Token()
	must(t, err)
	s, err := Open(text)
	must(t, err)
	again, err := s.Token() // also from there
	must(t, err)
	if again != text {
		t.Errorf("%s became %s", text, again)
	}
	must(t, s.Start())
	wantErr(t, made.Start(), ErrPipeInUse)
	must(t, s.TrySend([]byte("x")))
	must(t, s.Stop())

	token := r.token()
	token.Path = r.ring.Segment().Path()
	setEnv(t, token)
	s, err = FromEnv()
	must(t, err)
	must(t, s.Start())
	must(t, s.Stop())
}

func TestOpenRefused(t *testing.T) {
	r := newRouter(t, shm.Named)
	good := r.token()
	good.Path = r.ring.Segment().Path()
	dir := t.TempDir()
	notSegment := filepath.Join(dir, "file")
	must(t, os.WriteFile(notSegment, make([]byte, 65536), 0o600))
	link := filepath.Join(dir, "link")
	must(t, os.Symlink(good.Path, link))
	with := func(change func(t *wire.Token)) string {
		token := good
		change(&token)
		return token.String()
	}
	for _, c := range []struct {
		name, token string
		want        error
	}{
		{"empty", "", ErrBadHandover},
		{"several", good.String() + "," + good.String(), ErrBadHandover},
		{"descriptor", with(func(t *wire.Token) { t.FD = 3 }), ErrBadHandover},
		{"nowhere", with(func(t *wire.Token) { t.Path = "" }), ErrBadHandover},
		{"gone", with(func(t *wire.Token) { t.Path = dir + "/none" }), ErrRouterGone},
		{"no segment", with(func(t *wire.Token) { t.Path = notSegment }), ErrBadHandover},
		{"link", with(func(t *wire.Token) { t.Path = link }), ErrBadHandover},
		{"directory", with(func(t *wire.Token) { t.Path = dir }), ErrBadHandover},
		{"other", with(func(t *wire.Token) { t.Identity[0]++ }), ErrOtherRouter},
		{"earlier", with(func(t *wire.Token) { t.Epoch++ }), ErrRouterGone},
		{"index", with(func(t *wire.Token) { t.Index = 999 }), ErrBadHandover},
	} {
		s, err := Open(c.token)
		if s != nil {
			t.Errorf("%s: a Sender", c.name)
		}
		wantErr(t, err, c.want)
	}
}

func TestHandOver(t *testing.T) {
	a, b := newRouter(t, shm.Memfd), newRouter(t, shm.Named)
	t.Setenv(EnvName, "meant for this process")
	t.Setenv("SOMETHING", "else")
	cmd := exec.Command("true")
	cmd.ExtraFiles = []*os.File{nil}
	for _, r := range []*testRouter{a, b, a} {
		must(t, r.pipe().HandOver(cmd))
	}
	defer closeExtra(cmd)
	if len(cmd.ExtraFiles) != 3 {
		t.Fatalf("%d files", len(cmd.ExtraFiles))
	}
	var found []string
	something := false
	for _, v := range cmd.Env {
		if text, ok := strings.CutPrefix(v, EnvName+"="); ok {
			found = append(found, text)
		}
		something = something || v == "SOMETHING=else"
	}
	if len(found) != 1 || !something {
		t.Fatalf("environment is %q", cmd.Env)
	}
	tokens, err := wire.ParseTokens(found[0])
	must(t, err)
	for i, want := range []struct {
		fd       int
		identity [16]byte
		id       uint64
	}{{4, a.ring.Identity(), 1}, {5, b.ring.Identity(), 1}, {4, a.ring.Identity(), 2}} {
		if got := tokens[i]; got.FD != want.fd || got.Identity != want.identity || got.ID != want.id {
			t.Errorf("token %d is %+v", i, got)
		}
	}
}

// A command whose environment can name no more is refused, before the kernel refuses to start it.
func TestHandOverTooMany(t *testing.T) {
	r := newRouter(t, shm.Memfd)
	token := r.token()
	cmd := exec.Command("true")
	given := 0
	for range 3000 {
		s := atHome(r.ring, token)
		env, files := slices.Clone(cmd.Env), len(cmd.ExtraFiles)
		err := s.HandOver(cmd)
		if err == nil {
			given++
			continue
		}
		wantErr(t, err, ErrTooManySenders)
		if s.State() != StateInitial || !slices.Equal(cmd.Env, env) || len(cmd.ExtraFiles) != files {
			t.Fatalf("refused, but %v, %d files", s.State(), len(cmd.ExtraFiles))
		}
	}
	defer closeExtra(cmd)
	if given < 1000 || given == 3000 {
		t.Errorf("%d senders", given)
	}
	must(t, cmd.Run())
}

func TestHandOverRefused(t *testing.T) {
	refused := func(r *testRouter, cmd *exec.Cmd) error {
		s := r.pipe()
		err := s.HandOver(cmd)
		if s.State() != StateInitial || len(cmd.ExtraFiles) != 0 || cmd.Env != nil {
			t.Errorf("%v, but %v, %d files, environment %q", err, s.State(), len(cmd.ExtraFiles), cmd.Env)
		}
		return err
	}
	wantErr(t, refused(newRouter(t, shm.Heap), exec.Command("true")), shm.ErrNoFile)
	r := newRouter(t, shm.Memfd)
	cmd := exec.Command("true")
	must(t, cmd.Run())
	wantErr(t, refused(r, cmd), ErrStarted)
	r.die()
	s := r.pipe()
	must(t, r.ring.Close())
	wantErr(t, s.HandOver(exec.Command("true")), ErrRouterGone)
}
