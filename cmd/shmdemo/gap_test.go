package main

import (
	"encoding/json"
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/gap"
)

func gapResult(t *testing.T, p *process) (res gap.Result) {
	t.Helper()
	require.NoError(t, json.Unmarshal(p.stdout.Bytes(), &res), "%s%s", p.stdout.String(), p.stderr.String())
	return res
}

// TestGap has real kills, at full speed and paced, pinned and not.
func TestGap(t *testing.T) {
	for _, how := range []string{"--workers 3", "--rate 0 --workers 2 --free --capacity 65536"} {
		t.Run(how, func(t *testing.T) {
			picture := filepath.Join(t.TempDir(), "gap.svg")
			p := start(t, append(strings.Fields("gap --json --kills 3 --seed 7 --plot "+picture), strings.Fields(how)...)...)
			require.Equal(t, exitOK, p.wait(), "%s%s", p.stdout.String(), p.stderr.String())
			res := gapResult(t, p)
			require.True(t, res.OK)
			require.Empty(t, res.Error)
			require.Equal(t, uint64(7), res.Seed)
			require.Equal(t, 3, res.Kills)
			require.Equal(t, uint64(3), res.Skipped)
			require.Positive(t, res.Messages)
			require.Equal(t, 3, res.Gap.Count)
			require.Positive(t, res.Gap.Min, "nothing can arrive between the message before the claim and its skip")
			require.Positive(t, res.Resumed.Min)
			require.GreaterOrEqual(t, res.Gap.Max, res.Gap.P50)
			require.Positive(t, res.Rates.Before)
			require.Len(t, res.Curve.Median, len(res.Curve.At))
			require.Len(t, res.Curve.Worst, len(res.Curve.At))

			f, err := os.Open(picture)
			require.NoError(t, err)
			defer f.Close()
			paths := 0
			for dec := xml.NewDecoder(f); ; {
				token, err := dec.Token()
				if err == io.EOF {
					break
				}
				require.NoError(t, err)
				if e, ok := token.(xml.StartElement); ok && e.Name.Local == "path" {
					paths++
				}
			}
			require.Equal(t, 3, paths, "a band, the worst, and the median")
		})
	}
}

// TestGapInterrupted: what was seen until then is told, and nobody is left behind.
func TestGapInterrupted(t *testing.T) {
	p := start(t, "gap", "--json", "--kills", "1000000", "--workers", "2")
	require.Eventually(t, func() bool { return len(p.alive()) == 2 && running(p.alive()) }, 20*time.Second, 5*time.Millisecond)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGINT))
	require.Equal(t, exitOK, p.wait(), "%s%s", p.stdout.String(), p.stderr.String())
	res := gapResult(t, p)
	require.True(t, res.Interrupted)
	require.Less(t, res.Kills, 1000000)
	require.Equal(t, uint64(res.Kills), res.Skipped)
	require.Empty(t, p.alive())
}

// TestGapWorkerDies: a death that was not ordered is an error, and neither are the others left behind.
func TestGapWorkerDies(t *testing.T) {
	p := start(t, "gap", "--json", "--kills", "1000000", "--workers", "2")
	require.Eventually(t, func() bool { return len(p.alive()) == 2 && running(p.alive()) }, 20*time.Second, 5*time.Millisecond)
	require.NoError(t, syscall.Kill(p.alive()[0], syscall.SIGTERM))
	require.Equal(t, exitViolation, p.wait())
	res := gapResult(t, p)
	require.False(t, res.OK)
	require.Contains(t, res.Error, "terminated")
	require.Empty(t, p.alive())
}

func TestGapKilled(t *testing.T) {
	p := start(t, "gap", "--kills", "1000000", "--workers", "2")
	require.Eventually(t, func() bool { return len(p.alive()) == 2 && running(p.alive()) }, 20*time.Second, 5*time.Millisecond)
	require.NoError(t, p.cmd.Process.Kill())
	p.cmd.Wait()
	require.Eventually(t, func() bool { return len(p.alive()) == 0 }, 10*time.Second, 10*time.Millisecond, "workers left behind")
}

func TestGapUsage(t *testing.T) {
	for _, args := range []string{"--kills 0", "--workers 1", "--workers 256", "--rate -1", "--rate NaN", "--capacity 0", "--capacity 65535", "--plot /nowhere/x.svg", "much"} {
		p := start(t, append([]string{"gap"}, strings.Fields(args)...)...)
		require.Equal(t, exitUsage, p.wait(), args)
		require.Contains(t, p.stderr.String(), "shmdemo --help", args)
		require.Empty(t, p.stdout.String())
	}
}
