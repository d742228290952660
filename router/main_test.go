package router

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/internal/hosttest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/sender"
	"github.com/shmrouter/shmrouter/shm"
)

// The test binary plays the workers: with roleEnv set it does not test, but runs
// a role. A role that no test uses fails the run.
const (
	roleEnv = "ROUTER_TEST_ROLE"
	argEnv  = "ROUTER_TEST_ARG"
)

var roles = map[string]func(arg string) error{
	"puppet":  puppet,
	"flood":   flood,
	"router":  resumingRouter,
	"path":    sendByPath,
	"nothing": func(string) error { os.Exit(3); return nil },
	"life":    lifeRole,
	"host":    hostRole,
	"guest":   guestRole,

	"lives worker": livesWorker,

	"scarce main":  scarceMain,
	"scarce watch": scarceWatch,
	"obedient":     obedient,
	"startless":    startless,
	"crowded":      crowded,
	"no space":     noSpace,
	"secluded":     secluded,
	"family":       family,
	"forker":       forker,
	"daemon":       daemon,
	"blind main":   blindMain,
	"blind worker": blindWorker,

	"enduring main":   enduringMain,
	"enduring worker": enduringWorker,
	"busy main":       busyMain,
	"busy worker":     busyWorker,
	"hog":             func(string) error { hosttest.Hog(); fmt.Println("busy"); select {} },
	"worksman":        worksman,
	"commanding main": commandingMain,
	"ignorant main":   ignorantMain,
	"honest":          sendUntilTold,
	"labelled":        labelledRole,
	"scribbler":       scribble,
}

// Roles that only other roles start.
var nested = []string{"obedient", "daemon", "blind worker", "busy worker", "hog"}

var used struct {
	mu    sync.Mutex
	roles map[string]bool
}

// segments collects what ring.Check says of every segment that a router lets go.
var segments struct {
	mu      sync.Mutex
	checked int
	errs    []error
}

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		if err := roles[role](os.Getenv(argEnv)); err != nil {
			fmt.Fprintln(os.Stderr, role+":", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	testHookStopped = func(r *ring.Ring) {
		err := r.Check()
		segments.mu.Lock()
		defer segments.mu.Unlock()
		segments.checked++
		if err != nil {
			segments.errs = append(segments.errs, err)
		}
	}
	// The runtime's poller has two descriptors, from its first use on.
	if r, w, err := os.Pipe(); err == nil {
		r.Close()
		w.Close()
	}
	flag.Parse()
	used.roles = map[string]bool{}
	code := m.Run()
	all := flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.skip").Value.String() == "" && flag.Lookup("test.list").Value.String() == ""
	for role := range roles {
		if code == 0 && all && !used.roles[role] && !slices.Contains(nested, role) {
			fmt.Println("FAIL: no test uses role", role)
			code = 1
		}
	}
	os.Exit(code)
}

// command returns the test binary as a worker.
func command(t testing.TB, role, arg string) *exec.Cmd {
	t.Helper()
	use(t, role)
	return again(role, arg)
}

func use(t testing.TB, role string) {
	t.Helper()
	if roles[role] == nil {
		t.Fatalf("no role %q", role)
	}
	used.mu.Lock()
	used.roles[role] = true
	used.mu.Unlock()
}

// again is the test binary as a worker, for roles that start others.
func again(role, arg string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", "-test.run=^$") // which another user may run, too
	cmd.Env = roleVars(role, arg)
	cmd.Stderr = os.Stderr
	return cmd
}

func roleVars(role, arg string) []string {
	return append(os.Environ(), roleEnv+"="+role, argEnv+"="+arg, "GOMAXPROCS=1",
		"GORACE=atexit_sleep_ms=0") // under -race a process would otherwise take a second to exit
}

// guard is the frame of every test: at its end no segment was found damaged, and
// there are as many descriptors as at its beginning.
func guard(t testing.TB) {
	t.Helper()
	segments.mu.Lock()
	segments.errs = nil
	segments.mu.Unlock()
	before := descriptors(t)
	t.Cleanup(func() {
		segments.mu.Lock()
		for _, err := range segments.errs {
			t.Errorf("segment check: %v", err)
		}
		segments.mu.Unlock()
		eventually(t, "descriptors are closed", func() bool { return len(descriptors(t)) <= len(before) })
		if t.Failed() {
			t.Logf("descriptors before %v, after %v", before, descriptors(t))
		}
	})
}

func descriptors(t testing.TB) (links []string) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if link, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			links = append(links, link)
		}
	}
	return links
}

const patience = 20 * time.Second

// eventually waits for something that happens on its own time.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("in vain: %s", what)
			return
		}
	}
}

// begin makes a running router, which the test's end stops.
func begin(t testing.TB, opts ...Option) *Router {
	t.Helper()
	r, err := New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { halt(t, r) })
	return r
}

func halt(t testing.TB, r *Router) {
	t.Helper()
	if err := r.Stop(); err != nil && !errors.Is(err, ErrNotRunning) {
		t.Errorf("stop: %v", err)
	}
	if done := r.Done(); done != nil {
		within(t, "router done", done)
	}
}

func within[T any](t testing.TB, what string, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(patience):
		t.Fatalf("in vain: %s", what)
	}
	return v
}

func pipe(t testing.TB, r *Router) (*sender.Sender, *Receiver) {
	t.Helper()
	s, rcv, err := r.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	return s, rcv
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantIs(t testing.TB, what string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("%s: got %v, want %v", what, err, target)
	}
}

// journal is a logger's memory.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, string(b))
	return len(b), nil
}

func (j *journal) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (j *journal) matching(text string) (found []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, l := range j.lines {
		if strings.Contains(l, text) {
			found = append(found, l)
		}
	}
	return found
}

// stage is an event loop that runs when the test says so, on the test's own
// goroutine: nothing is routed between two of its steps.
type stage struct {
	mu    sync.Mutex
	posts []func()
	ready chan struct{}
}

func newStage() *stage { return &stage{ready: make(chan struct{}, 1)} }

func (s *stage) loop() EventLoop {
	return PostLoop(func(f func()) {
		s.mu.Lock()
		s.posts = append(s.posts, f)
		s.mu.Unlock()
		select {
		case s.ready <- struct{}{}:
		default:
		}
	})
}

// run runs what was posted and returns how many funcs there were.
func (s *stage) run() int {
	s.mu.Lock()
	posts := s.posts
	s.posts = nil
	s.mu.Unlock()
	for _, f := range posts {
		f()
	}
	return len(posts)
}

// until runs the loop until cond holds.
func (s *stage) until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	end := time.After(patience)
	for !cond() {
		if s.run() > 0 {
			continue
		}
		select {
		case <-s.ready:
		case <-time.After(time.Millisecond): // cond may depend on others
		case <-end:
			t.Fatalf("in vain: %s", what)
		}
	}
}

// peer is the sending end of a pipe, wherever it is.
type peer interface {
	Start() error
	Send(text string) error
	TrySend(text string) error
	SendMany(n, size int) error // numbered: see body
	Stop() error
	State() string
	Cause() string // waits for the Context, returns why it ended
	Claim(n int) error
	Commit() error
}

// local is a sender in the test's process.
type local struct {
	s     *sender.Sender
	claim sender.Claim
}

func (l *local) Start() error              { return l.s.Start() }
func (l *local) Send(text string) error    { return l.s.Send(background, []byte(text)) }
func (l *local) TrySend(text string) error { return l.s.TrySend([]byte(text)) }
func (l *local) Stop() error               { return l.s.Stop() }
func (l *local) State() string             { return l.s.State().String() }
func (l *local) SendMany(n, size int) error {
	for i := range n {
		if err := l.s.Send(background, body(i, size)); err != nil {
			return err
		}
	}
	return nil
}
func (l *local) Cause() string {
	ctx := l.s.Context()
	<-ctx.Done()
	return causeOf(ctx).Error()
}
func (l *local) Claim(n int) (err error) { l.claim, err = l.s.Claim(background, n); return err }
func (l *local) Commit() error           { return l.claim.Commit() }

// body is message number i of a numbered series: size bytes that all depend on i.
func body(i, size int) []byte {
	b := make([]byte, max(size, 8))
	copy(b, fmt.Sprintf("%08d", i))
	for k := 8; k < len(b); k++ {
		b[k] = byte(i*7 + k)
	}
	return b
}

func checkBody(t testing.TB, i int, b []byte) {
	t.Helper()
	if !slices.Equal(b, body(i, len(b))) {
		t.Fatalf("message %d is torn or out of order: %.16q", i, b)
	}
}

// remote is a sender in another process, which does what it is told.
type remote struct {
	t   testing.TB
	w   *Worker
	in  *json.Encoder
	out *bufio.Scanner
}

type order struct {
	Op      string
	Text    string
	N, Size int
}

type answer struct {
	Err   string
	Is    []string // the sentinels that it matches
	Value string
}

// remoteError is an error of another process.
type remoteError struct{ answer }

func (e *remoteError) Error() string { return e.Err }
func (e *remoteError) Is(target error) bool {
	for name, sentinel := range sentinels {
		if sentinel == target {
			return slices.Contains(e.answer.Is, name)
		}
	}
	return false
}

var sentinels = map[string]error{
	"state": sender.ErrState, "closed": os.ErrClosed, "full": sender.ErrFull, "large": sender.ErrTooLarge,
	"gone": sender.ErrRouterGone, "pipe": sender.ErrPipeClosed, "inuse": sender.ErrPipeInUse, "done": sender.ErrClaimDone,
	"nolocks": shm.ErrNoLocks,
}

func (p *remote) ask(o order) (string, error) {
	p.t.Helper()
	if err := p.in.Encode(o); err != nil {
		p.t.Fatalf("%s: %v", o.Op, err)
	}
	if !p.out.Scan() {
		p.t.Fatalf("%s: worker is gone: %v", o.Op, p.out.Err())
	}
	var a answer
	must(p.t, json.Unmarshal(p.out.Bytes(), &a))
	if a.Err != "" {
		return a.Value, &remoteError{a}
	}
	return a.Value, nil
}

func (p *remote) do(o order) error       { p.t.Helper(); _, err := p.ask(o); return err }
func (p *remote) Start() error           { p.t.Helper(); return p.do(order{Op: "start"}) }
func (p *remote) Send(text string) error { p.t.Helper(); return p.do(order{Op: "send", Text: text}) }
func (p *remote) TrySend(text string) error {
	p.t.Helper()
	return p.do(order{Op: "trysend", Text: text})
}
func (p *remote) SendMany(n, size int) error {
	p.t.Helper()
	return p.do(order{Op: "many", N: n, Size: size})
}
func (p *remote) Stop() error       { p.t.Helper(); return p.do(order{Op: "stop"}) }
func (p *remote) State() string     { p.t.Helper(); v, _ := p.ask(order{Op: "state"}); return v }
func (p *remote) Cause() string     { p.t.Helper(); v, _ := p.ask(order{Op: "cause"}); return v }
func (p *remote) Claim(n int) error { p.t.Helper(); return p.do(order{Op: "claim", N: n}) }
func (p *remote) Commit() error     { p.t.Helper(); return p.do(order{Op: "commit"}) }
func (p *remote) exit(code int)     { p.in.Encode(order{Op: "exit", N: code}) }
func (p *remote) tell(o order)      { p.in.Encode(o) } // without waiting for the answer

// launch starts a puppet that has one sender.
func launch(t testing.TB, r *Router, senders ...*sender.Sender) *remote {
	t.Helper()
	cmd := command(t, "puppet", "")
	p, finish := connect(t, cmd)
	w, err := r.Launch(cmd, senders...)
	finish()
	must(t, err)
	p.w = w
	return p
}

// listen gives cmd a standard output that the test reads, also after the process has ended. finish is called
// after the start.
func listen(t testing.TB, cmd *exec.Cmd) (out *os.File, finish func()) {
	t.Helper()
	outR, outW, err := os.Pipe()
	must(t, err)
	cmd.Stdout = outW
	t.Cleanup(func() { outR.Close() })
	return outR, func() { outW.Close() }
}

// connect connects a puppet's strings. finish is called after the start.
func connect(t testing.TB, cmd *exec.Cmd) (p *remote, finish func()) {
	t.Helper()
	inR, inW, err := os.Pipe()
	must(t, err)
	outR, listening := listen(t, cmd)
	cmd.Stdin = inR
	p = &remote{t: t, in: json.NewEncoder(inW), out: bufio.NewScanner(outR)}
	t.Cleanup(func() {
		inW.Close() // the puppet ends
		if p.w != nil {
			within(t, "worker ends", p.w.Done())
		}
	})
	return p, func() { inR.Close(); listening() }
}

// puppet is a worker that does what it reads.
func puppet(string) error {
	senders, err := sender.AllFromEnv()
	if err != nil {
		return err
	}
	all := make([]*local, len(senders))
	for i, s := range senders {
		all[i] = &local{s: s}
	}
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var o order
		if in.Decode(&o) != nil {
			os.Exit(0)
		}
		var a answer
		var err error
		for _, l := range all {
			switch o.Op {
			case "start":
				err = l.Start()
			case "send":
				err = l.Send(o.Text)
			case "trysend":
				err = l.TrySend(o.Text)
			case "many":
				err = l.SendMany(o.N, o.Size)
			case "stop":
				err = l.Stop()
			case "state":
				a.Value = l.State()
			case "cause":
				a.Value = l.Cause()
			case "claim":
				err = l.Claim(o.N)
			case "commit":
				err = l.Commit()
			case "exit":
				os.Exit(o.N)
			}
			if err != nil {
				break
			}
		}
		if err != nil {
			a.Err = err.Error()
			for name, sentinel := range sentinels {
				if errors.Is(err, sentinel) {
					a.Is = append(a.Is, name)
				}
			}
		}
		out.Encode(a)
	}
}

// bothEnds runs a test with the sender in this process and in a worker.
func bothEnds(t *testing.T, test func(t *testing.T, far func(*Router, *sender.Sender) peer)) {
	t.Run("in process", func(t *testing.T) {
		guard(t)
		test(t, func(_ *Router, s *sender.Sender) peer { return &local{s: s} })
	})
	t.Run("worker", func(t *testing.T) {
		guard(t)
		test(t, func(r *Router, s *sender.Sender) peer { return launch(t, r, s) })
	})
}
