package ring_test

import (
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The compiler has made of a send what the memory model needs on amd64: the payload's copy and the length
// come before the commit, which is a plain MOV behind the compare of the fence word, and then the sleep
// word is looked at. The one locked instruction of a send is the claim. In end the claim's word is compared
// before the MOV, and there is another locked instruction for where there are no barriers; two are in
// claim, for the claim and for the pad.
func TestCommitIsAStore(t *testing.T) {
	switch {
	case testing.Short():
		t.Skip("compiles the package")
	case runtime.GOARCH != "amd64":
		t.Skip("elsewhere the commit is an atomic store")
	}
	out, err := exec.Command("go", "build", "-gcflags=-S", ".").CombinedOutput()
	if err != nil {
		t.Skipf("needs the go command and the source: %v: %s", err, out)
	}
	listing := string(out)
	load, store := `atomic/type\.go:\d+\)\tMOVQ\t\(\w+\), \w+`, `release_unsafe\.go:\d+\)\tMOVQ\t\w+, \(\w+\)`
	sleeper := []string{load, `doorbell\.go:\d+\)\tTESTQ\t\$3`, `CALL\t.*\.\(\*Producer\)\.ringSleeper\(SB\)`}
	inOrder(t, function(t, listing, "(*Producer).send"), append([]string{
		`CMPXCHGQ`, `relaxed_unsafe\.go:\d+\)\tMOVQ\t\w+, 8\(\w+\)`, `CALL\truntime\.memmove`,
		`atomic/type\.go:\d+\)\tMOVL\t\(\w+\), \w+`, `producer\.go:\d+\)\tCMPQ`, `producer\.go:\d+\)\tJ(NE|EQ)`, store,
	}, sleeper...)...)
	inOrder(t, function(t, listing, "(*Producer).end"),
		load, `fence\.go:\d+\)\tCMPQ\t\w+, \w+`, `fence\.go:\d+\)\tJ(NE|EQ)`, store)
	inOrder(t, function(t, listing, "(*Producer).commit"), append([]string{`CALL\t.*\.\(\*Producer\)\.end\(SB\)`}, sleeper...)...)
	for name, locked := range map[string]int{
		"commit": 0, "end": 1, "claim": 2, "send": 1, "sendElse": 0, "write": 0, "ringSleeper": 0, "stepOver": 0, "fits": 0,
	} {
		code := functionIfAny(listing, "(*Producer)."+name)
		require.Equal(t, locked, strings.Count(code, "\tLOCK\n"), name)
		exchange := regexp.MustCompile(`XCHG[BWLQ]\t\w+, \d*\(`).FindString(strings.ReplaceAll(code, "CMPXCHG", ""))
		require.Empty(t, exchange, "%s: an exchange is locked by itself", name)
		require.False(t, strings.Contains(code, "MFENCE"), name)
	}
}

// function is what the compiler made of a function of package ring.
func function(t *testing.T, listing, name string) string {
	t.Helper()
	code := functionIfAny(listing, name)
	require.NotEmpty(t, code, name)
	return code
}

// functionIfAny is empty for one that is inlined everywhere.
func functionIfAny(listing, name string) string {
	_, code, _ := strings.Cut(listing, "github.com/shmrouter/shmrouter/ring."+name+" STEXT")
	if i := strings.Index(code, " STEXT"); i >= 0 {
		code = code[:i]
	}
	return code
}

// inOrder fails the test unless the patterns match one behind the other.
func inOrder(t *testing.T, text string, patterns ...string) {
	t.Helper()
	rest := text
	for _, p := range patterns {
		at := regexp.MustCompile(p).FindStringIndex(rest)
		require.NotNil(t, at, "no %s where it should be in\n%s", p, text)
		rest = rest[at[1]:]
	}
}
