package inspect

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/router"
	"github.com/shmrouter/shmrouter/shm"
)

// Where a test needs a process of its own, the test binary plays it: started again with roleVariable it runs one of
// roles on the file that fileVariable names, says "ready", and ends when its input does, or is killed.
const (
	roleVariable = "SHMROUTER_INSPECT_TEST_ROLE"
	fileVariable = "SHMROUTER_INSPECT_TEST_FILE"
)

var roles = map[string]func(path string, input *bufio.Reader) error{
	"router":    func(path string, in *bufio.Reader) error { return playRouter(path, in) },
	"resumable": func(path string, in *bufio.Reader) error { return playRouter(path, in, router.WithResume()) },
	"producer":  playProducer,
	"consumer":  playConsumer,
	"flood":     playFlood,
	"opener":    playOpener,
	"elsewhere": playElsewhere,
}

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		if err := roles[role](os.Getenv(fileVariable), bufio.NewReader(os.Stdin)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// ready waits for the input's end.
func ready(in *bufio.Reader) {
	fmt.Println("ready")
	io.Copy(io.Discard, in)
}

func playRouter(path string, in *bufio.Reader, opts ...router.Option) error {
	r, err := router.New(append(opts, router.WithPath(path), router.WithCapacity(ring.MinCapacity))...)
	if err == nil {
		err = r.Start()
	}
	if err != nil {
		return err
	}
	defer r.Stop()
	if _, _, err := r.Pipe(); err != nil {
		return err
	}
	ready(in)
	return nil
}

// playProducer sends three messages and stays inside a claim.
func playProducer(path string, in *bufio.Reader) error {
	r, err := ring.OpenPath(path)
	if err != nil {
		return err
	}
	a, err := r.Attach()
	if err != nil {
		return err
	}
	p := a.NewProducer()
	for i := range 3 {
		if err := p.TrySend([]byte{byte(i)}, 0); err != nil {
			return err
		}
	}
	if _, err := p.TryClaim(1000, 0); err != nil {
		return err
	}
	ready(in)
	return nil
}

func playConsumer(path string, in *bufio.Reader) error {
	r, err := ring.OpenPath(path)
	if err != nil {
		return err
	}
	c, err := r.Consume()
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		if err := c.Wait(context.Background()); err != nil {
			return err
		}
		if _, err := c.Poll(64, func(ring.Frame) ring.Action { return ring.Continue }); err != nil {
			return err
		}
	}
}

// playFlood sends messages of many sizes, batches, and aborted claims, until it is killed.
func playFlood(path string, in *bufio.Reader) error {
	r, err := ring.OpenPath(path)
	if err != nil {
		return err
	}
	a, err := r.Attach()
	if err != nil {
		return err
	}
	p := a.NewProducer()
	fmt.Println("ready")
	ctx := context.Background()
	for i := 0; ; i++ {
		switch i % 8 {
		case 0:
			err = p.SendBatch(ctx, [][]byte{make([]byte, i%300), nil, make([]byte, 70)}, nil)
		case 1:
			var c ring.Claim
			if c, err = p.Claim(ctx, i%1000, 0); err == nil {
				c.Abort()
			}
		default:
			err = p.Send(ctx, make([]byte, i*37%3000), 0)
		}
		if err != nil {
			return err
		}
	}
}

// playOpener opens the file when it is told to, and says so.
func playOpener(path string, in *bufio.Reader) error {
	fmt.Println("ready")
	in.ReadString('\n')
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	ready(in)
	return nil
}

// peer is a process that plays a role.
type peer struct {
	t      *testing.T
	cmd    *exec.Cmd
	input  io.WriteCloser
	output *bufio.Reader
}

func start(t *testing.T, role, path string) *peer {
	t.Helper()
	p := prepare(t, role, path)
	p.begin()
	return p
}

func prepare(t *testing.T, role, path string) *peer {
	p := &peer{t: t, cmd: exec.Command("/proc/self/exe")}
	p.cmd.Env = append(os.Environ(), roleVariable+"="+role, fileVariable+"="+path)
	p.cmd.Stderr = os.Stderr
	return p
}

func (p *peer) begin() {
	t := p.t
	t.Helper()
	var err error
	p.input, err = p.cmd.StdinPipe()
	require.NoError(t, err)
	output, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	p.output = bufio.NewReader(output)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() { p.kill() })
	p.awaitReady()
}

func (p *peer) awaitReady() {
	p.t.Helper()
	line, err := p.output.ReadString('\n')
	require.NoError(p.t, err, line)
	require.Equal(p.t, "ready", strings.TrimSpace(line))
}

// kill ends it as kill -9 does, and waits until it is gone: its locks are free then.
func (p *peer) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// leave has it end in order.
func (p *peer) leave() {
	p.input.Close()
	require.NoError(p.t, p.cmd.Wait())
}

// newPath is a path in memory that is gone after the test.
func newPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(shm.DefaultDir(), "inspect-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "segment")
}

// newRing makes a ring in a file, which no process has open any more.
func newRing(t *testing.T) (path string) {
	t.Helper()
	path = newPath(t)
	r, err := ring.Create(path, ring.Options{Capacity: ring.MinCapacity})
	require.NoError(t, err)
	require.NoError(t, r.Close())
	return path
}

func mustOpen(t *testing.T, name string) *Segment {
	t.Helper()
	s, err := Open(name)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func mustSnapshot(t *testing.T, s *Segment) *Snapshot {
	t.Helper()
	p, err := s.Snapshot()
	require.NoError(t, err)
	return p
}

const patience = 20 * time.Second
