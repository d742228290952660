package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/page"
)

// commandLine is what the program was called with, without its name.
type commandLine []string

// again is the command that asks for the same once more: the same flags, with the seed that was used, and without those
// that only say where the result goes.
func (c commandLine) again(seed uint64) string {
	words := []string{"shmdemo"}
	for i := 0; i < len(c); i++ {
		name, _, joined := strings.Cut(c[i], "=")
		switch name {
		case "--json":
		case "--report", "--seed":
			if !joined {
				i++
			}
		default:
			words = append(words, quoted(c[i]))
		}
	}
	return strings.Join(append(words, fmt.Sprintf("--seed %d", seed)), " ")
}

// quoted writes a word as a shell reads it.
func quoted(word string) string {
	plain := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-_=./:,+@%", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// asked describes a run for its page.
func (c commandLine) asked(seed uint64, began time.Time, interrupted bool, options ...page.Row) page.Asked {
	return page.Asked{
		Command: c.again(seed), When: began.Format("2006-01-02 15:04:05 MST"), Interrupted: interrupted,
		Options: append(options, page.Row{Name: "seed", Value: fmt.Sprint(seed)}),
	}
}

// reportFile is where a page goes: it appears there at once and whole, or not at all, and what was there before stays until then.
type reportFile struct{ path string }

// openReport looks whether the file can be written, before the work. No name is no report.
func openReport(name *string) (*reportFile, error) {
	if name == nil {
		return nil, nil
	}
	if *name == "" { // a script's variable that is not set
		return nil, usageError{errors.New("--report: the file's name is empty")}
	}
	r := &reportFile{filepath.Clean(*name)}
	if real, err := filepath.EvalSymlinks(r.path); err == nil {
		r.path = real // or a link would be replaced, and not what it names
	}
	err := r.fits()
	if err == nil {
		err = r.beside(func(*os.File) error { return nil }, os.Remove)
	}
	if err != nil {
		return nil, usageError{fmt.Errorf("--report: %w", err)}
	}
	return r, nil
}

// fits reports what is there that must not be replaced.
func (r *reportFile) fits() error {
	info, err := os.Lstat(r.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", r.path)
	}
	return nil
}

// write puts a page there. A nil report takes nothing.
func (r *reportFile) write(page func(io.Writer) error) error {
	if r == nil {
		return nil
	}
	err := r.beside(func(f *os.File) error { return page(f) }, func(name string) error { return os.Rename(name, r.path) })
	if err != nil {
		return fmt.Errorf("--report: %w", err)
	}
	return nil
}

// beside has fill write a new file next to the place, and then done with its name.
func (r *reportFile) beside(fill func(*os.File) error, done func(name string) error) error {
	name := filepath.Join(filepath.Dir(r.path), fmt.Sprintf(".%s.%d-%08x", filepath.Base(r.path), os.Getpid(), rand.Uint32()))
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return &fs.PathError{Op: "create", Path: r.path, Err: errors.Unwrap(err)} // the name that was given
	}
	if err = errors.Join(fill(f), f.Close()); err == nil {
		err = done(name)
	}
	if err != nil {
		os.Remove(name)
	}
	return err
}
