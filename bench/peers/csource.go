package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"
)

// The C programs: rings that promise less, and what the kernel and the caches
// allow. They are compiled when the command runs, for this machine.

//go:embed testdata/c
var cSources embed.FS

// cProgram is one to build.
type cProgram struct{ source, define string }

var cPrograms = map[string]cProgram{
	"agrona": {"rings.c", "-DRING_AGRONA=1"},
	"slots":  {"rings.c", "-DRING_SLOTS=1"},
	"floors": {"floors.c", "-DNDEBUG"},
}

// cFlags are the same on every machine.
var cFlags = []string{"-O2", "-march=native", "-Wall", "-Wextra", "-pthread"}

var errNoCompiler = errors.New("neither gcc nor cc is here")

// cBinaries are the built programs, by name.
type cBinaries map[string]string

// buildC compiles the programs, or finds them from an earlier run: a folder in
// the cache is named after sources, flags and compiler.
func buildC() (cBinaries, error) {
	compiler, err := exec.LookPath("gcc")
	if err != nil {
		if compiler, err = exec.LookPath("cc"); err != nil {
			return nil, errNoCompiler
		}
	}
	dir, err := cFolder(compiler)
	if err != nil {
		return nil, err
	}
	built := cBinaries{}
	for name, p := range cPrograms {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err != nil {
			if err := compile(compiler, append(slices.Clone(cFlags), p.define), filepath.Join(dir, p.source), path); err != nil {
				return nil, err
			}
		}
		built[name] = path
	}
	return built, nil
}

// cFolder has the sources in it.
func cFolder(compiler string) (string, error) {
	version, err := exec.Command(compiler, "--version").Output()
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintln(h, compiler, cFlags, cPrograms, runtime.GOARCH)
	h.Write(version)
	entries, err := cSources.ReadDir("testdata/c")
	if err != nil {
		return "", err
	}
	sources := map[string][]byte{}
	for _, e := range entries {
		if sources[e.Name()], err = cSources.ReadFile("testdata/c/" + e.Name()); err != nil {
			return "", err
		}
		h.Write(sources[e.Name()])
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "shmrouter-bench", fmt.Sprintf("%x", h.Sum(nil)[:8]))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for name, text := range sources {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// compile leaves no half-written program behind, also beside another compile.
func compile(compiler string, flags []string, source, path string) error {
	temp := path + "." + strconv.Itoa(os.Getpid())
	out, err := exec.Command(compiler, append(flags, "-o", temp, source)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", compiler, source, err, out)
	}
	return os.Rename(temp, path)
}

// cPatience is for a whole run; its processes end with the one that is killed.
const cPatience = 2 * time.Minute

// run starts a program and returns the figures that it prints.
func (c cBinaries) run(program, job string, args map[string]any) (measure, error) {
	ctx, cancel := context.WithTimeout(context.Background(), cPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, c[program], job)
	for key, value := range args {
		cmd.Args = append(cmd.Args, fmt.Sprintf("%s=%v", key, value))
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%v: %w: %s", cmd.Args, err, bytes.TrimSpace(stderr.Bytes()))
	}
	m := measure{}
	if err := json.Unmarshal(out, &m); err != nil {
		return nil, fmt.Errorf("%v: %w: %q", cmd.Args, err, out)
	}
	return m, nil
}
