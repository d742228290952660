package doctest

import (
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	codeSpan  = regexp.MustCompile("``.+?``|`[^`]*`")
	inline    = regexp.MustCompile(`\]\(<?([^)\s>]+)>?(?:\s+"[^"]*")?\)`)
	reference = regexp.MustCompile(`^\s{0,3}\[[^\]]+\]:\s*(\S+)`)
	attribute = regexp.MustCompile(`<[a-z]+ [^>]*?(?:src|href|srcset)="([^"]+)"`)
	named     = regexp.MustCompile(`<[a-z]+ [^>]*?(?:id|name)="([^"]+)"`)
	heading   = regexp.MustCompile(`^#{1,6}\s+(.*?)\s*#*$`)
	linked    = regexp.MustCompile(`!?\[([^\]]*)\]\([^)]*\)`)
)

// Links within the repository lead to a file that is there, and to a heading that it has.
func TestLinks(t *testing.T) {
	all := pages(t)
	anchors := map[string]map[string]bool{}
	for _, p := range all {
		anchors[p.path] = p.anchors()
	}
	files, fragments := 0, 0
	for _, p := range all {
		for _, l := range p.prose {
			for _, to := range links(l.text) {
				u, err := url.Parse(to)
				if !assert.NoError(t, err, "%s:%d", p.path, l.number) || u.Scheme != "" {
					continue
				}
				target := p.path
				if u.Path != "" {
					files++
					target = path.Join(path.Dir(p.path), u.Path)
					assert.False(t, strings.HasPrefix(target, "..") || path.IsAbs(u.Path), "%s:%d: %s leads out of the repository", p.path, l.number, to)
					assert.True(t, exists(filepath.Join(root(t), target)), "%s:%d: there is no %s", p.path, l.number, to)
				}
				if u.Fragment != "" && strings.HasSuffix(target, ".md") {
					fragments++
					assert.True(t, anchors[target][u.Fragment], "%s:%d: %s has no heading #%s", p.path, l.number, target, u.Fragment)
				}
			}
		}
	}
	require.Greater(t, files, 50)
	require.Positive(t, fragments)
}

func links(l string) (all []string) {
	l = codeSpan.ReplaceAllString(l, "")
	for _, re := range []*regexp.Regexp{inline, reference, attribute} {
		for _, m := range re.FindAllStringSubmatch(l, -1) {
			all = append(all, m[1])
		}
	}
	return all
}

// anchors are the names that GitHub gives a page's headings, and those that the page gives itself.
func (p *page) anchors() map[string]bool {
	all := map[string]bool{}
	for _, l := range p.prose {
		for _, m := range named.FindAllStringSubmatch(l.text, -1) {
			all[m[1]] = true
		}
		m := heading.FindStringSubmatch(l.text)
		if m == nil {
			continue
		}
		base := slug(m[1])
		name := base
		for n := 1; all[name]; n++ {
			name = base + "-" + strconv.Itoa(n)
		}
		all[name] = true
	}
	return all
}

func slug(heading string) string {
	heading = linked.ReplaceAllString(heading, "$1")
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			return unicode.ToLower(r)
		}
		return -1
	}, heading)
}

var testName = regexp.MustCompile("`((?:Test|Benchmark|Example|Fuzz)[A-Z_]\\w*)(?:/[^`]*)?`")

// Every test that a page names exists.
func TestNamedTestsExist(t *testing.T) {
	there := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func ((?:Test|Benchmark|Example|Fuzz)\w*)\(`)
	eachFile(t, "_test.go", func(_, text string) {
		for _, m := range function.FindAllStringSubmatch(text, -1) {
			there[m[1]] = true
		}
	})
	names := 0
	for _, p := range pages(t) {
		for _, l := range p.prose {
			for _, m := range testName.FindAllStringSubmatch(l.text, -1) {
				names++
				assert.True(t, there[m[1]], "%s:%d: there is no %s", p.path, l.number, m[1])
			}
		}
	}
	require.Greater(t, names, 50)
}
