package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// process is an actor as seen from outside.
type process struct {
	name    string
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	stderr  bytes.Buffer
	reports chan Report // closed when the process has nothing more to say
	early   *Report     // read ahead of its time
}

// newProcess prepares an actor that inherits the files.
func newProcess(s setup, files map[string]*os.File) (*process, error) {
	s.Files = slices.Sorted(maps.Keys(files))
	text, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{name: numbered("sender ", s.Index), cmd: exec.Command(self), reports: make(chan Report, 2)}
	if s.Receiver {
		p.name = "receiver"
	}
	p.cmd.Env = append(os.Environ(), envActor+"="+string(text))
	p.cmd.Stderr = &p.stderr
	// A terminal's signals are for who measures, and would find an actor before it could ignore them.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	for _, name := range s.Files {
		p.cmd.ExtraFiles = append(p.cmd.ExtraFiles, files[name])
	}
	return p, nil
}

func startProcess(s setup, files map[string]*os.File) (*process, error) {
	p, err := newProcess(s, files)
	if err != nil {
		return nil, err
	}
	return p, p.start()
}

func (p *process) start() (err error) {
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	go func() {
		defer close(p.reports)
		for dec := json.NewDecoder(stdout); ; {
			var r Report
			if dec.Decode(&r) != nil {
				return
			}
			p.reports <- r
		}
	}()
	return nil
}

func (p *process) order(o Order) error {
	if err := json.NewEncoder(p.stdin).Encode(o); err != nil {
		return fmt.Errorf("bench: %s: %w", p.name, err)
	}
	return nil
}

// report waits for the next one. After the time: os.ErrDeadlineExceeded.
func (p *process) report(within time.Duration) (Report, error) {
	if r := p.early; r != nil {
		p.early = nil
		return *r, nil
	}
	select {
	case r, ok := <-p.reports:
		if !ok || r.Err != "" {
			return r, p.failure(r)
		}
		return r, nil
	case <-time.After(within):
		return Report{}, fmt.Errorf("bench: %s: no report: %w", p.name, os.ErrDeadlineExceeded)
	}
}

// failure is the error in a report, or that of a process that ended without.
func (p *process) failure(r Report) error {
	switch {
	case strings.HasPrefix(r.Err, ErrBadMessage.Error()):
		return fmt.Errorf("%s: %w%s", p.name, ErrBadMessage, strings.TrimPrefix(r.Err, ErrBadMessage.Error()))
	case r.Err != "":
		return fmt.Errorf("bench: %s: %s", p.name, r.Err)
	}
	err := p.cmd.Wait()
	return fmt.Errorf("bench: %s ended: %v: %s", p.name, err, strings.TrimSpace(p.stderr.String()))
}

// close ends the process. It has nothing to say any more, so how it ends does
// not matter.
func (p *process) close() {
	if p.cmd.Process == nil {
		return
	}
	p.stdin.Close()
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}
