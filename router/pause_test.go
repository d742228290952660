package router

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/internal/hosttest"
	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/sender"
	"github.com/shmrouter/shmrouter/shm"
)

// A worker stopped inside a claim for eight idle sleeps of the monitor and more: it is named, again and again,
// and not skipped; a worker that is killed meanwhile ends no sooner than its place; when it goes on, everything
// arrives, in order.
func TestWorkerStoppedInClaim(t *testing.T) {
	guard(t)
	stalls := make(chan ring.StallEvent, 100)
	r := begin(t, WithStallHook(func(e ring.StallEvent) { stalls <- e }))
	s, rcv := pipe(t, r)
	other, orcv := pipe(t, r)
	victim, vrcv := pipe(t, r)
	stopped, behind, dying := launch(t, r, s), launch(t, r, other), launch(t, r, victim)
	for _, p := range []*remote{stopped, behind, dying} {
		must(t, p.Start())
	}
	must(t, stopped.Claim(100))
	must(t, stopped.w.Signal(unix.SIGSTOP))
	must(t, behind.SendMany(100, 50))
	must(t, dying.SendMany(10, 50))
	must(t, dying.w.Kill())
	for age := time.Duration(0); age < 800*time.Millisecond; {
		e := within(t, "stall", stalls)
		if e.PID != stopped.w.PID() || e.PIDNamespace != shm.PIDNamespace() {
			t.Errorf("stall: %+v", e)
		}
		age = max(age, e.Age)
	}
	if s := r.Stats(); s.Copied != 0 || s.Ring.Consumer.SkippedDead != 0 || s.Ends != 0 {
		t.Errorf("%+v", s)
	}
	must(t, stopped.w.Signal(unix.SIGCONT))
	must(t, stopped.Commit())
	_, err := rcv.Recv(background)
	must(t, err)
	for i := range 100 {
		m, err := orcv.Recv(background)
		must(t, err)
		checkBody(t, i, m.Data)
	}
	for i := range 10 {
		m, err := vrcv.Recv(background)
		must(t, err)
		checkBody(t, i, m.Data)
	}
	_, err = vrcv.Recv(background)
	wantIs(t, "end of the killed", err, ErrPeerDied)
	if s := r.Stats(); s.Ring.Consumer.SkippedDead != 0 || s.ClaimStalls < 4 {
		t.Errorf("%+v", s)
	}
	for _, rcv := range []*Receiver{rcv, orcv, vrcv} {
		must(t, rcv.Close())
	}
}

// enduringMain is a main process that is stopped now and then: arg is the path of its segment. It says the
// tokens of two pipes, and how each of them went.
func enduringMain(path string) error {
	r, err := New(WithPath(path), WithCapacity(64<<10))
	if err != nil {
		return err
	}
	if err := r.Start(); err != nil {
		return err
	}
	ended := make(chan string)
	for range 2 {
		s, rcv, err := r.Pipe()
		if err != nil {
			return err
		}
		token, err := s.Token()
		if err != nil {
			return err
		}
		fmt.Println(token)
		next, wrong := 0, 0
		rcv.Handle(func(m Message) {
			if !slices.Equal(m.Data, body(next, len(m.Data))) {
				wrong++
			}
			next++
		}, func(err error) { ended <- fmt.Sprint(next, " wrong ", wrong, " ", err) })
	}
	for range 2 {
		fmt.Println(<-ended)
	}
	return r.Stop()
}

// enduringWorker sends a series to the router of a token, and again, until it reads a line; it says how many
// messages that were.
func enduringWorker(token string) error {
	s, err := sender.Open(token)
	if err != nil {
		return err
	}
	if err := s.Start(); err != nil {
		return err
	}
	ctx := s.Context()
	var enough atomic.Bool
	go func() { fmt.Scanln(new(string)); enough.Store(true) }()
	fmt.Println("started")
	n := 0
	for ; !enough.Load(); n++ {
		if err := s.Send(background, body(n, 100)); err != nil {
			return fmt.Errorf("message %d: %w", n, err)
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("context: %w", causeOf(ctx))
	}
	if err := s.Stop(); err != nil {
		return err
	}
	fmt.Println(n)
	return nil
}

// The main process is stopped, for three times as long as its death would take to be noticed, and then time
// and again: the workers wait, none concludes that it is dead, and nothing is lost.
func TestMainProcessStopped(t *testing.T) {
	guard(t)
	path := filepath.Join(t.TempDir(), "segment")
	begin := func(cmd *exec.Cmd) (*exec.Cmd, *bufio.Scanner, *os.File) {
		t.Helper()
		inR, inW, err := os.Pipe()
		must(t, err)
		outR, finish := listen(t, cmd)
		cmd.Stdin = inR
		err = cmd.Start()
		inR.Close()
		finish()
		must(t, err)
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait(); inW.Close() })
		return cmd, bufio.NewScanner(outR), inW
	}
	line := func(out *bufio.Scanner) string {
		t.Helper()
		if !out.Scan() {
			t.Fatal("it has ended")
		}
		return out.Text()
	}
	mainCmd, mainOut, _ := begin(command(t, "enduring main", path))
	var workers []*exec.Cmd
	var outs []*bufio.Scanner
	var ins []*os.File
	for _, token := range []string{line(mainOut), line(mainOut)} {
		cmd, out, in := begin(command(t, "enduring worker", token))
		workers, outs, ins = append(workers, cmd), append(outs, out), append(ins, in)
	}
	for _, out := range outs {
		line(out)
	}
	view, err := ring.OpenPath(path)
	must(t, err)
	defer view.Close()
	head := func() uint64 { return view.Head() }
	moves := func() {
		t.Helper()
		from := head()
		eventually(t, "messages are consumed", func() bool { return head() > from+4096 })
	}
	moves()
	must(t, mainCmd.Process.Signal(unix.SIGSTOP))
	const noticed = 250 * time.Millisecond // sends fail within that of the router's death
	time.Sleep(3 * noticed)
	stats, err := view.Stats()
	must(t, err)
	if !stats.Waiters {
		t.Error("nobody waits")
	}
	must(t, mainCmd.Process.Signal(unix.SIGCONT))
	moves()
	for range 50 {
		must(t, mainCmd.Process.Signal(unix.SIGSTOP))
		runtime.Gosched()
		must(t, mainCmd.Process.Signal(unix.SIGCONT))
	}
	moves()
	var sent []string
	for i, in := range ins {
		fmt.Fprintln(in)
		sent = append(sent, line(outs[i])+" wrong 0 <nil>")
		must(t, workers[i].Wait())
	}
	got := []string{line(mainOut), line(mainOut)}
	slices.Sort(sent)
	slices.Sort(got)
	if !slices.Equal(sent, got) {
		t.Errorf("sent %q, got %q", sent, got)
	}
	must(t, mainCmd.Wait())
	t.Log(got)
}

// busyMain is a router on a machine that has other things to do. arg says which: "hog" for a goroutine on its
// only processor, "hogs" for one in each worker, too; "pinned beside" for one processor for all, and a
// process that is busy there; "quota" to wait until it is put into a control group, and use that up.
func busyMain(arg string) error {
	if strings.Contains(arg, "quota") {
		fmt.Scanln(new(string))
		groups, err := os.ReadFile("/proc/self/cgroup")
		if err != nil || !strings.Contains(string(groups), hosttest.QuotaName) {
			return fmt.Errorf("not in the group, but in %q: %v", groups, err)
		}
		defer hosttest.Hog()()
	}
	if strings.Contains(arg, "pinned") {
		if err := hosttest.Processor(); err != nil {
			return err
		}
	}
	if strings.Contains(arg, "hog") {
		runtime.GOMAXPROCS(1)
		defer hosttest.Hog()()
	}
	r, err := New(WithCapacity(64 << 10))
	if err != nil {
		return err
	}
	if err := r.Start(); err != nil {
		return err
	}
	if strings.Contains(arg, "beside") {
		beside := again("hog", "")
		out, err := beside.StdoutPipe()
		if err == nil {
			err = beside.Start()
		}
		if err != nil {
			return err
		}
		defer beside.Wait()
		defer beside.Process.Kill()
		bufio.NewScanner(out).Scan() // it has begun
	}
	type worker struct {
		*Worker
		delays []time.Duration
		ended  chan error
		wrong  error
		last   chan struct{}
	}
	workers := make([]*worker, 2)
	for i := range workers {
		w := &worker{ended: make(chan error, 1), last: make(chan struct{})}
		workers[i] = w
		s, rcv, err := r.Pipe()
		if err != nil {
			return err
		}
		rcv.Handle(func(m Message) {
			at, number := binary.NativeEndian.Uint64(m.Data), binary.NativeEndian.Uint64(m.Data[8:])
			if number != uint64(len(w.delays)) {
				w.wrong = fmt.Errorf("message %d is number %d", len(w.delays), number)
			}
			w.delays = append(w.delays, time.Duration(shm.Now()-int64(at)))
			if len(w.delays) == busyMessages(arg) {
				close(w.last)
			}
		}, func(err error) { w.ended <- err })
		if w.Worker, err = r.Launch(again("busy worker", arg), s); err != nil {
			return err
		}
	}
	var all []time.Duration
	var told time.Duration
	for _, w := range workers {
		<-w.last
		killed := shm.Now()
		if err := w.Kill(); err != nil {
			return err
		}
		if err := <-w.ended; !errors.Is(err, ErrPeerDied) {
			return fmt.Errorf("end: %w", err)
		}
		told = max(told, time.Duration(shm.Now()-killed))
		if w.wrong != nil {
			return w.wrong
		}
		all = append(all, w.delays...)
	}
	slices.Sort(all)
	report, err := json.Marshal(busyReport{
		Messages: len(all), Median: all[len(all)/2].String(), P99: all[len(all)*99/100].String(), Max: all[len(all)-1].String(), DeathTold: told.String(),
	})
	fmt.Printf("%s\n", report)
	return errors.Join(err, r.Stop())
}

// busyMessages is how many each worker sends: many, where they are not slow.
func busyMessages(arg string) int {
	switch {
	case strings.Contains(arg, "hog"):
		return 1000
	case arg == "quota":
		return 10_000
	}
	return 50_000
}

type busyReport struct {
	Messages                          int
	Median, P99, Max, DeathTold, Took string
}

// busyWorker sends that many, with the time of each, in bursts, and waits to be killed.
func busyWorker(arg string) error {
	if strings.Contains(arg, "hogs") {
		runtime.GOMAXPROCS(1)
		hosttest.Hog()
	}
	s, err := sender.FromEnv()
	if err != nil {
		return err
	}
	if err := s.Start(); err != nil {
		return err
	}
	for i := range busyMessages(arg) {
		b := make([]byte, 200)
		binary.NativeEndian.PutUint64(b, uint64(shm.Now()))
		binary.NativeEndian.PutUint64(b[8:], uint64(i))
		if err := s.Send(background, b); err != nil {
			return err
		}
		if i%200 == 0 {
			runtime.Gosched()
		}
	}
	select {}
}

// Little processor time: a goroutine or a process that hogs the only one, or half of one in a control group.
// Everything arrives in order, and deaths are told; how long that takes is the scheduler's business, and noted.
func TestBusyMachine(t *testing.T) {
	for _, how := range []string{"hog", "hogs", "pinned beside", "quota"} {
		t.Run(strings.ReplaceAll(how, " ", "_"), func(t *testing.T) {
			guard(t)
			group := ""
			if how == "quota" {
				group = hosttest.Quota(t)
			}
			cmd := command(t, "busy main", how)
			cmd.Env = slices.DeleteFunc(cmd.Env, func(v string) bool { return v == "GOMAXPROCS=1" })
			in, err := cmd.StdinPipe()
			must(t, err)
			var out strings.Builder
			cmd.Stdout = &out
			began := time.Now()
			must(t, cmd.Start())
			if group != "" {
				must(t, hosttest.Enter(group, cmd.Process.Pid))
				fmt.Fprintln(in)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			must(t, within(t, "all arrives, deaths are told", ended))
			var report busyReport
			must(t, json.Unmarshal([]byte(out.String()), &report))
			if report.Messages != 2*busyMessages(how) {
				t.Errorf("%+v", report)
			}
			report.Took = time.Since(began).String()
			if group != "" {
				stat, err := os.ReadFile(filepath.Join(group, "cpu.stat"))
				must(t, err)
				t.Logf("%s", stat)
			}
			t.Logf("%+v", report)
		})
	}
}
