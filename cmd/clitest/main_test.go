package clitest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/router"
	"github.com/shmrouter/shmrouter/shm"
)

const (
	roleVariable = "SHMROUTER_CLITEST_ROLE"
	fileVariable = "SHMROUTER_CLITEST_FILE"
)

const patience = 30 * time.Second

var programs string // the directory of the built ones

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		if err := roles[role](os.Getenv(fileVariable)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(build(m))
}

func build(m *testing.M) int {
	dir, err := os.MkdirTemp("", "clitest")
	if err == nil {
		defer os.RemoveAll(dir)
		programs = dir
		cmd := exec.Command("go", "build", "-o", dir, "./cmd/shmctl", "./cmd/shmdemo")
		cmd.Dir = "../.."
		var out []byte
		if out, err = cmd.CombinedOutput(); err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// Processes that scripts start on a segment. Each says "ready" and stays until it is killed or its input ends.
var roles = map[string]func(path string) error{
	"router":    func(path string) error { return playRouter(router.WithPath(path)) },
	"resumable": func(path string) error { return playRouter(router.WithPath(path), router.WithResume()) },
	"memfd":     func(string) error { return playRouter() },
	"producer":  playProducer,
	"consumer":  playConsumer,
}

func ready() error {
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

func playRouter(opts ...router.Option) error {
	r, err := router.New(append(opts, router.WithCapacity(ring.MinCapacity))...)
	if err == nil {
		err = r.Start()
	}
	if err != nil {
		return err
	}
	defer r.Stop()
	return ready()
}

// playProducer makes the ring if there is none, sends two messages, and stays inside a claim.
func playProducer(path string) error {
	r, err := ring.OpenPath(path)
	if err != nil {
		r, err = ring.Create(path, ring.Options{Capacity: ring.MinCapacity})
	}
	if err != nil {
		return err
	}
	a, err := r.Attach()
	if err != nil {
		return err
	}
	p := a.NewProducer()
	for _, text := range []string{"first message", "second message"} {
		if err := p.TrySend([]byte(text), 5); err != nil {
			return err
		}
	}
	if _, err := p.TryClaim(1000, 0); err != nil {
		return err
	}
	return ready()
}

func playConsumer(path string) error {
	r, err := ring.OpenPath(path)
	if err != nil {
		return err
	}
	if _, err := r.Consume(); err != nil {
		return err
	}
	return ready()
}

// commands are what scripts can do besides running programs.
var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"status":  cmdStatus,
	"schema":  cmdSchema,
	"start":   cmdStart,
	"killall": cmdKill,
	"poke":    cmdPoke,
	"narrow":  cmdNarrow,
	"waitfor": cmdWaitFor,

	"chown-to-other": cmdChown,
	"hostile":        cmdHostile,
	"shmlist":        cmdList,
}

// cmdStatus runs a program and requires its exit status: status N PROGRAM ARGS... It runs it again where another script's
// look at all segments, which prune takes for a user of them, came between.
func cmdStatus(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	for end := time.Now().Add(patience); strings.Contains(ts.ReadFile("stdout"), "(shmctl) has it open") && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
		err = ts.Exec(args[1], args[2:]...)
	}
	got := 0
	if exit := (*exec.ExitError)(nil); err != nil {
		if !asExit(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if want, _ := strconv.Atoi(args[0]); got != want {
		ts.Fatalf("exit status %d instead of %d", got, want)
	}
}

func asExit(err error, exit **exec.ExitError) (ok bool) {
	*exit, ok = err.(*exec.ExitError)
	return ok
}

var compiled sync.Map // schemas by name

// cmdSchema holds each JSON document of the last standard output against the schema that shmctl prints: schema NAME.
func cmdSchema(ts *testscript.TestScript, neg bool, args []string) {
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	dec.UseNumber()
	seen := 0
	for {
		var doc any
		err := dec.Decode(&doc)
		if err == io.EOF {
			break
		}
		ts.Check(err)
		ts.Check(schemaOf(ts, args[0]).Validate(doc))
		seen++
	}
	if seen == 0 {
		ts.Fatalf("no document")
	}
}

func schemaOf(ts *testscript.TestScript, name string) *jsonschema.Schema {
	if s, ok := compiled.Load(name); ok {
		return s.(*jsonschema.Schema)
	}
	out, err := exec.Command(filepath.Join(programs, "shmctl"), "schema", name).Output()
	ts.Check(err)
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(out))
	ts.Check(err)
	closeSchema(doc)
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	ts.Check(c.AddResource(name+".json", doc))
	s, err := c.Compile(name + ".json")
	ts.Check(err)
	compiled.Store(name, s)
	return s
}

// closeSchema allows no properties but those that the schema names: programs that read the output have to expect further
// ones, and this test that each is documented.
func closeSchema(doc any) {
	switch doc := doc.(type) {
	case map[string]any:
		if _, ok := doc["properties"].(map[string]any); ok {
			doc["additionalProperties"] = false
		}
		for _, inner := range doc {
			closeSchema(inner)
		}
	case []any:
		for _, inner := range doc {
			closeSchema(inner)
		}
	}
}

// cmdStart starts a role on a file, waits until it is ready, and sets $PID, and with "memfd" $FD: start ROLE [FILE].
func cmdStart(ts *testscript.TestScript, neg bool, args []string) {
	file := ""
	if len(args) > 1 {
		file = ts.MkAbs(args[1])
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"="+args[0], fileVariable+"="+file)
	in, err := cmd.StdinPipe()
	ts.Check(err)
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	running := ts.Value("running").(*[]*exec.Cmd)
	*running = append(*running, cmd)
	ts.Defer(func() { in.Close(); cmd.Process.Kill(); cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "ready\n" {
		ts.Fatalf("%s: %s %v", args[0], line, err)
	}
	ts.Setenv("PID", strconv.Itoa(cmd.Process.Pid))
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", cmd.Process.Pid))
	for _, l := range links {
		if to, _ := os.Readlink(l); strings.HasPrefix(to, "/memfd:shmrouter") {
			ts.Setenv("FD", filepath.Base(l))
		}
	}
}

// cmdKill kills what the script started, as kill -9 does.
func cmdKill(ts *testscript.TestScript, neg bool, args []string) {
	running := ts.Value("running").(*[]*exec.Cmd)
	for _, cmd := range *running {
		cmd.Process.Kill()
		cmd.Wait()
	}
	*running = nil
}

// cmdPoke writes bytes into a file: poke FILE OFFSET BYTE...
func cmdPoke(ts *testscript.TestScript, neg bool, args []string) {
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_RDWR, 0)
	ts.Check(err)
	defer f.Close()
	at, err := strconv.ParseInt(args[1], 0, 64)
	ts.Check(err)
	for i, a := range args[2:] {
		b, err := strconv.ParseUint(a, 0, 8)
		ts.Check(err)
		_, err = f.WriteAt([]byte{byte(b)}, at+int64(i))
		ts.Check(err)
	}
}

// cmdWaitFor waits until a file exists.
func cmdWaitFor(ts *testscript.TestScript, neg bool, args []string) {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
	}
	ts.Fatalf("%s does not come", args[0])
}

// cmdChown gives a file to another user.
func cmdChown(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(os.Chown(ts.MkAbs(args[0]), 12345, -1))
}

const hostileName = "\x1b[31mred"

// cmdHostile makes a file whose name holds an escape sequence: hostile DIR.
func cmdHostile(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(os.WriteFile(filepath.Join(args[0], hostileName), []byte("SHMRING1 and no more"), 0o600))
}

// cmdList runs commands on that file.
func cmdList(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(ts.Exec("shmctl", "list", filepath.Join(args[0], hostileName)))
}

var escape = regexp.MustCompile(`\x1b`)

// cmdNarrow requires the last output to fit into 80 columns, without colour or other escapes.
func cmdNarrow(ts *testscript.TestScript, neg bool, args []string) {
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		line = strings.TrimSuffix(line, "\n")
		if utf8.RuneCountInString(line) > 80 || escape.MatchString(line) {
			ts.Fatalf("not for 80 plain columns: %q", line)
		}
	}
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:  "testdata",
		Cmds: commands,
		Condition: func(cond string) (bool, error) {
			if cond == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", programs+string(os.PathListSeparator)+e.Getenv("PATH"))
			e.Setenv("NO_COLOR", "1")
			e.Values["running"] = new([]*exec.Cmd)
			// Segments belong into memory, and into a directory of the script's own.
			dir, err := os.MkdirTemp(shm.DefaultDir(), "clitest-")
			if err != nil {
				return err
			}
			e.Setenv("SHM", dir)
			e.Defer(func() { os.RemoveAll(dir) })
			return nil
		},
	})
}
