package sweep

import (
	"bytes"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/stretchr/testify/require"
)

// Every operation, without a tracer: to its end, and killed at some moment of it.
func TestOperations(t *testing.T) {
	for _, o := range operations {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			l := &lane{}
			defer l.renew()
			untraced(t, l, o, -1)
			random := ringtest.Random(t)
			for range 3 {
				untraced(t, l, o, time.Duration(random.Int64N(int64(100*time.Microsecond))))
			}
		})
	}
}

// untraced runs an operation, and kills the victim after a time, or if that is negative when it is through.
func untraced(t *testing.T, l *lane, o *operation, after time.Duration) {
	w, err := l.newWorld(o)
	require.NoError(t, err)
	defer w.close()
	r, err := w.cast(o, bySubject)
	require.NoError(t, err)
	require.NoError(t, r.cmd.Start())
	r.started(r.cmd.Process.Pid)
	require.True(t, eventually(func() bool { return r.diary.ready.Load() != 0 }), "%s", r.said())
	require.NoError(t, w.begins())
	r.diary.going.Store(1)
	if after >= 0 {
		time.Sleep(after)
	} else {
		naps, asleep := 0, 0
		require.True(t, eventually(func() bool {
			if sleeps(r.pid) {
				asleep++
			} else {
				asleep = 0
			}
			if asleep == 20 {
				naps++
				require.NoError(t, w.unblock(naps))
				asleep = 0
			}
			return r.diary.result.Load() != pending
		}), "it does not end")
		r.whole = true
	}
	r.cmd.Process.Kill()
	r.cmd.Wait()
	require.NoError(t, w.died(r))
	require.NoError(t, w.aftermath([]*role{r}))
	if rest := w.rest(); rest != nil {
		rest()
	}
	require.Empty(t, w.verdict().complaints, "%v after %v: %s", o.name, after, r.said())
}

// sleeps tells whether a process's main thread is asleep.
func sleeps(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/stat", pid, pid))
	_, rest, ok := bytes.Cut(stat, []byte(") "))
	return err == nil && ok && rest[0] == 'S'
}
