package ring_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/shm"
	"github.com/stretchr/testify/require"
)

const mutantReports = 10_000

const mutantVariable = "SHMROUTER_RING_MUTANT"

// lockstepMutants each leave out one thing without which a commit by store loses wakes.
var lockstepMutants = []struct {
	name, file, is, becomes string
	test                    string // that comes to a standstill
}{
	{
		"the consumer sleeps behind a claim without a barrier", "doorbell.go",
		"if mode == stuck && c.drains && shm.Barrier() != nil {", "if mode == stuck && c.drains && !isMutant && shm.Barrier() != nil {",
		"joined producer, able consumer",
	},
	{
		"a process that barriers do not reach commits by store", "fence.go",
		"!shm.BarriersJoined())", "!shm.BarriersJoined() && !isMutant)",
		"forbidden producer, able consumer",
	},
	{
		"commits are stores although the consumer has no barriers", "fence.go",
		"(fence&hasBarriers == 0 ||", "(fence&hasBarriers == 0 && !isMutant ||",
		"joined producer, forbidden consumer",
	},
}

// The lost wake is real: with any of the mutants lockstep comes to a standstill, with the consumer
// asleep behind a record that is committed. Without being told to be a mutant, the same binary does not.
// How soon depends on how far the processors are apart: where a line takes 70 ns behind some thousand
// steps, where it takes 25 behind some 100,000. A machine that does not show it in ten million is skipped:
// that the order matters is the model's to show, on any.
func TestProcessLockstepMutants(t *testing.T) {
	switch {
	case testing.Short():
		t.Skip("builds this test once more")
	case raceEnabled:
		t.Skip("commits are no plain stores under the race detector")
	case runtime.GOARCH != "amd64":
		t.Skip("commits are plain stores on amd64 only")
	case runtime.NumCPU() < 2:
		t.Skip("one processor sees its own stores in order")
	case !shm.CanBarrier():
		t.Skip("there are no barriers here")
	}
	needFilter(t)
	binary := buildMutants(t)
	for _, m := range lockstepMutants {
		t.Run(m.name, func(t *testing.T) {
			out, err := runMutant(binary, m.name, m.test, mutantReports)
			if err == nil {
				t.Skip("the stores of this machine are too quick to be late")
			}
			_, found, _ := strings.Cut(out, "behind step ")
			require.Contains(t, found, "a wake was lost: true", "%s", out)
			t.Log("step " + strings.SplitN(found, "\n", 2)[0])
		})
	}
	for _, m := range lockstepMutants {
		out, err := runMutant(binary, "none", m.test, 1)
		require.NoError(t, err, "%s", out)
	}
}

// runMutant runs a part of TestProcessLockstep for so many reports.
func runMutant(binary, name, test string, reports int) (string, error) {
	limit := 500 * time.Millisecond
	if name == "none" {
		limit = ringtest.Patience
	}
	cmd := exec.Command(binary, "-test.run=^TestProcessLockstep$/^"+strings.ReplaceAll(test, " ", "_")+"$",
		"-lockstep.standstill="+limit.String(), "-lockstep.reports="+strconv.Itoa(reports))
	cmd.Env = append(os.Environ(), mutantVariable+"="+name)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// buildMutants builds this package's test with all mutants in it; which one it is, the environment says.
func buildMutants(t *testing.T) (binary string) {
	t.Helper()
	dir, err := filepath.Abs(".")
	require.NoError(t, err)
	to := t.TempDir()
	text, replace := map[string]string{}, map[string]string{}
	for _, m := range lockstepMutants {
		if text[m.file] == "" {
			b, err := os.ReadFile(m.file)
			if err != nil {
				t.Skip("needs the source: ", err)
			}
			text[m.file] = string(b)
		}
		require.Equal(t, 1, strings.Count(text[m.file], m.is), "%s is not what it was: %s", m.file, m.is)
		text[m.file] = strings.Replace(text[m.file], m.is, strings.ReplaceAll(m.becomes, "isMutant", "(mutant == "+strconv.Quote(m.name)+")"), 1)
	}
	text["mutant.go"] = "package ring\n\nimport \"os\"\n\nvar mutant = os.Getenv(" + strconv.Quote(mutantVariable) + ")\n"
	for file, s := range text {
		replace[filepath.Join(dir, file)] = filepath.Join(to, file)
		require.NoError(t, os.WriteFile(filepath.Join(to, file), []byte(s), 0o600))
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(to, "overlay.json"), overlay, 0o600))
	binary = filepath.Join(to, "ring.test")
	out, err := exec.Command("go", "test", "-c", "-overlay", filepath.Join(to, "overlay.json"), "-o", binary, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return binary
}
