package doctest

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Flags of go test, with whether a value follows.
var testFlags = map[string]bool{
	"bench": true, "benchmem": false, "benchtime": true, "c": false, "count": true, "cover": false, "coverprofile": true, "cpu": true,
	"cpuprofile": true, "exec": true, "failfast": false, "fuzz": true, "fuzztime": true, "json": false, "list": true, "memprofile": true,
	"o": true, "parallel": true, "race": false, "run": true, "short": false, "shuffle": true, "skip": true, "tags": true, "timeout": true, "v": false,
}

func (c *checker) goCommand(args []string) {
	if len(args) == 0 || c.dir == outside {
		return
	}
	sub, args := args[0], args[1:]
	switch sub {
	case "run":
		c.goRun(args)
	case "test":
		c.goTest(args)
	case "build", "vet", "generate":
		c.paths(args)
	case "doc":
		for _, a := range args {
			if own, ok := strings.CutPrefix(a, module+"/"); ok {
				c.folder("./" + own)
			}
		}
		c.paths(args)
	case "get", "install":
		for _, a := range args {
			if own, ok := strings.CutPrefix(a, module); ok {
				own, _, _ = strings.Cut(own, "@")
				c.folder("." + own)
			}
		}
	case "mod":
		if c.dir == "." && len(args) > 0 && args[0] == "init" {
			c.dir = outside
		}
	case "tool", "env", "version", "fmt":
	default:
		c.fail("go %s: not known here", sub)
	}
}

// folder returns the one of a package, from the root; "" if it is not there.
func (c *checker) folder(pkg string) string {
	dir := path.Join(c.dir, strings.TrimSuffix(pkg, "..."))
	if !exists(filepath.Join(c.root, dir)) {
		c.fail("there is no package %s", pkg)
		return ""
	}
	return dir
}

func (c *checker) goRun(args []string) {
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		args = args[1:] // -race
	}
	if len(args) == 0 {
		c.fail("go run, of what?")
		return
	}
	pkg, args := args[0], args[1:]
	own, remote := strings.CutPrefix(pkg, module+"/")
	if remote {
		own, _, _ = strings.Cut(own, "@")
		pkg = "./" + own
	}
	dir := c.folder(pkg)
	switch {
	case dir == "" || dir == ".": // the reader's own program
	case dir == "cmd/shmctl" || dir == "cmd/shmdemo":
		c.help(path.Base(dir), args)
	default:
		sources := c.sources(dir, func(name string) bool { return !strings.HasSuffix(name, "_test.go") })
		if !regexp.MustCompile(`(?m)^package main$`).MatchString(sources) {
			c.fail("%s is no program", pkg)
		}
		for _, a := range args {
			if strings.HasPrefix(a, "-") {
				c.flag(sources, a)
			}
		}
		c.paths(args)
	}
}

func (c *checker) goTest(args []string) {
	var dirs []string
	recursive := false
	patterns := map[string]string{}
	var own []string
	for i := 0; i < len(args); i++ {
		a := args[i]
		if !strings.HasPrefix(a, "-") {
			if !strings.HasPrefix(a, ".") && i > 0 && len(own) > 0 && own[len(own)-1] == args[i-1] {
				continue // the value of a flag of the tests' own
			}
			if dir := c.folder(a); dir != "" {
				dirs = append(dirs, dir)
			}
			recursive = recursive || strings.HasSuffix(a, "...")
			continue
		}
		name, value, has := strings.Cut(strings.TrimLeft(a, "-"), "=")
		takes, known := testFlags[name]
		if !known {
			own = append(own, a)
			continue
		}
		if takes && !has && i+1 < len(args) {
			i++
			value = args[i]
		}
		patterns[name] = value
	}
	if len(dirs) == 0 { // in whatever package the text around it names
		dirs, recursive = []string{"."}, true
	}
	var sources strings.Builder
	for _, dir := range dirs {
		isTest := func(name string) bool { return strings.HasSuffix(name, "_test.go") }
		sources.WriteString(c.sources(dir, isTest))
		if recursive {
			filepath.WalkDir(filepath.Join(c.root, dir), func(p string, d os.DirEntry, err error) error {
				if err == nil && d.IsDir() {
					rel, _ := filepath.Rel(c.root, p)
					sources.WriteString(c.sources(rel, isTest))
				}
				return err
			})
		}
	}
	for name, kinds := range map[string]string{"run": "Test|Example|Fuzz", "bench": "Benchmark", "fuzz": "Fuzz", "skip": "Test|Example|Fuzz|Benchmark"} {
		if pattern, ok := patterns[name]; ok && pattern != "^$" && pattern != "NONE" {
			c.matches(sources.String(), name, kinds, pattern)
		}
	}
	for _, a := range own {
		c.flag(sources.String(), a)
	}
}

// matches wants each alternative of the pattern to meet a test.
func (c *checker) matches(sources, flag, kinds, pattern string) {
	top, _, _ := strings.Cut(pattern, "/")
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^func ((?:`+kinds+`)\w*)\(`).FindAllStringSubmatch(sources, -1) {
		names = append(names, m[1])
	}
	for _, alternative := range strings.Split(strings.Trim(top, "()"), "|") {
		re, err := regexp.Compile(alternative)
		if err != nil {
			c.fail("-%s %s: %v", flag, pattern, err)
		} else if !slices.ContainsFunc(names, re.MatchString) {
			c.fail("-%s %s: no test or benchmark there matches %q", flag, pattern, alternative)
		}
	}
}

// flag wants one of a program that uses package flag to be defined in its source.
func (c *checker) flag(sources, arg string) {
	name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	defined := regexp.MustCompile(`\.(?:Bool|String|Int|Int64|Uint|Uint64|Float64|Duration|Text|Func|BoolFunc)(?:Var)?\((?:&?[\w.]+, )?"` + regexp.QuoteMeta(name) + `"`)
	if !defined.MatchString(sources) {
		c.fail("there is no flag %s", arg)
	}
}

// sources returns the text of a folder's Go files.
func (c *checker) sources(dir string, want func(name string) bool) string {
	var all strings.Builder
	files, _ := filepath.Glob(filepath.Join(c.root, dir, "*.go"))
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && want(filepath.Base(f)) {
			all.Write(b)
		}
	}
	return all.String()
}
