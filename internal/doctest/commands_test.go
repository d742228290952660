package doctest

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Programs of the system that pages may use; their arguments are only looked at for paths.
var system = []string{
	"apt-get", "cat", "chmod", "curl", "df", "docker", "echo", "export", "findmnt", "getcap", "git", "grep", "head", "ipcs", "kill", "kubectl", "ls", "lsof",
	"mkdir", "mount", "nice", "perf", "podman", "ps", "rm", "stat", "strace", "sudo", "sysctl", "systemctl", "systemd-run", "taskset", "ulimit", "umask", "uname", "unzip",
}

var (
	assignment = regexp.MustCompile(`^[A-Z_]+=`)
	ours       = regexp.MustCompile(`^(?:go (?:run|test|vet|doc|build) |(?:shmctl|shmdemo) [a-z-]|\.ci/run|bench/\S+\.sh)`)
	shellCode  = regexp.MustCompile("`([^`]+)`")
)

// Every command that a page shows exists with the flags that it is given. They are not run.
func TestCommands(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the commands")
	}
	c := &checker{t: t, root: root(t), helped: map[string]error{}}
	c.build("shmctl", "shmdemo")
	for _, p := range pages(t) {
		if !p.shown() {
			continue
		}
		for _, b := range p.blocks {
			language, _, _ := strings.Cut(b.label, " ")
			assert.NotContains(t, []string{"bash", "shell", "console", "golang"}, language, "%s:%d: the labels are sh and go", p.path, b.line)
			if language == "sh" || b.label == "" && c.isCommand(b.text) {
				c.script(p, b.line, b.text)
			}
		}
		for _, l := range p.prose {
			for _, m := range shellCode.FindAllStringSubmatch(l.text, -1) {
				if ours.MatchString(m[1]) && !strings.ContainsAny(m[1], "…<") {
					c.script(p, l.number-1, m[1])
				}
			}
		}
	}
	require.Greater(t, c.seen, 40)
}

type checker struct {
	t      *testing.T
	root   string
	bin    string
	helped map[string]error
	seen   int

	page *page // where the command stands
	line int
	dir  string // where it is run, from the root; outside: in a folder of the reader's
	made []string
}

const outside = "(outside)"

func (c *checker) build(names ...string) {
	c.bin = c.t.TempDir()
	args := []string{"build", "-o", c.bin}
	for _, n := range names {
		args = append(args, "./cmd/"+n)
	}
	out, err := command(c.t, c.root, "go", args...).CombinedOutput()
	require.NoError(c.t, err, "%s", out)
}

// isCommand tells whether a block without a label begins with something to type.
func (c *checker) isCommand(text string) bool {
	words := strings.Fields(text)
	for len(words) > 0 && assignment.MatchString(words[0]) {
		words = words[1:]
	}
	if len(words) < 2 {
		return false
	}
	w := words[0]
	return slices.Contains([]string{"go", "cd", "shmctl", "shmdemo"}, w) || slices.Contains(system, w) ||
		strings.Contains(w, "/") && !path.IsAbs(w) && (exists(filepath.Join(c.root, w)) || path.Ext(w) == ".sh")
}

// script checks one command after the other, in the folder that cd leads to.
func (c *checker) script(p *page, first int, text string) {
	c.page, c.dir, c.made = p, ".", nil
	until := "" // the end of a here-document
	sofar := "" // of a line that goes on
	for i, l := range strings.Split(text, "\n") {
		c.line = first + 1 + i
		if until != "" {
			if strings.TrimSpace(l) == until {
				until = ""
			}
			continue
		}
		if before, ok := strings.CutSuffix(l, "\\"); ok {
			sofar += before
			continue
		}
		if _, end, ok := strings.Cut(l, "<<"); ok {
			until = strings.Trim(strings.Fields(end)[0], `-'"`)
		}
		whole := sofar + l
		sofar = ""
		if strings.HasPrefix(whole, "cd ") && c.dir != outside {
			c.dir = "." // each line that begins so is for itself
		}
		for _, words := range split(whole) {
			c.command(words)
		}
	}
}

func (c *checker) fail(format string, args ...any) {
	c.t.Errorf("%s:%d: "+format, append([]any{c.page.path, c.line}, args...)...)
}

func (c *checker) command(words []string) {
	for len(words) > 0 && (assignment.MatchString(words[0]) || words[0] == "sudo" || words[0] == "$") {
		words = words[1:]
	}
	if len(words) == 0 {
		return
	}
	c.seen++
	name, args := words[0], words[1:]
	switch {
	case name == "shmctl" || name == "shmdemo":
		c.help(name, args)
	case name == "go":
		c.goCommand(args)
	case name == "cd":
		c.cd(args)
	case name == "mkdir":
		c.made = append(c.made, args...)
	case name == "git" && len(args) > 0 && args[0] == "clone":
	case strings.Contains(name, "/") && c.dir != outside:
		info, err := os.Stat(filepath.Join(c.root, c.dir, name))
		if err != nil {
			c.fail("there is no %s", name)
		} else if info.Mode()&0o111 == 0 {
			c.fail("%s is not executable", name)
		}
	case slices.Contains(system, name):
		c.paths(args)
	case c.dir != outside:
		c.fail("%s: neither a command of this repository nor one that pages may use", name)
	}
}

// help has the command itself read its arguments: --help is looked at behind all of them, and runs nothing.
func (c *checker) help(name string, args []string) {
	key := name + " " + strings.Join(args, " ")
	if _, known := c.helped[key]; !known {
		out, err := command(c.t, c.root, filepath.Join(c.bin, name), append(slices.Clone(args), "--help")...).CombinedOutput()
		c.helped[key] = err
		if err != nil {
			c.fail("%s: %v\n%s", key, err, out)
		}
	}
}

func (c *checker) cd(args []string) {
	switch {
	case c.dir == outside || len(args) == 0:
	case path.Base(args[0]) == "shmrouter": // a clone
		c.dir = "."
	case exists(filepath.Join(c.root, c.dir, args[0])):
		c.dir = path.Join(c.dir, args[0])
	case slices.Contains(c.made, args[0]):
		c.dir = outside
	default:
		c.fail("there is no %s", args[0])
	}
}

// paths wants those arguments to exist that look like something in here.
func (c *checker) paths(args []string) {
	for i, a := range args {
		if c.dir == outside || i > 0 && slices.Contains([]string{"-o", ">"}, args[i-1]) {
			continue
		}
		first, _, ok := strings.Cut(a, "/")
		here := first == "." || first == ".." || exists(filepath.Join(c.root, c.dir, first))
		if ok && first != "" && here && !exists(filepath.Join(c.root, c.dir, strings.TrimSuffix(a, "/..."))) {
			c.fail("there is no %s", a)
		}
	}
}

// split takes a line apart into commands of words, as far as a shell's syntax is used in pages.
func split(line string) (commands [][]string) {
	var words []string
	var word strings.Builder
	started, quote := false, rune(0)
	flush := func() {
		if started {
			words = append(words, word.String())
		}
		word.Reset()
		started = false
	}
	end := func() {
		flush()
		if len(words) > 0 {
			commands = append(commands, words)
		}
		words = nil
	}
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, started = r, true
		case r == ' ' || r == '\t':
			flush()
		case r == '#' && !started:
			end()
			return commands
		case strings.ContainsRune("|&;()", r):
			end()
		default:
			word.WriteRune(r)
			started = true
		}
	}
	end()
	return commands
}
