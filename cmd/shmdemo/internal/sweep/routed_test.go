package sweep

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Who has taken its pipe is owed an end, also one that has not sent anything, nor come back from Start. Who has not
// is owed none.
func TestEndIsOwed(t *testing.T) {
	defer func(before time.Duration) { patience = before }(patience)
	for _, c := range []struct {
		name    string
		starts  bool
		deaf    bool // the end is told to nobody
		whether string
	}{
		{"started", true, false, ""},
		{"started, and nobody is told", true, true, "no end of the pipe"},
		{"not started", false, true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			patience = 10 * time.Second
			l := &lane{}
			defer l.renew()
			world, err := l.newWorld(operationNamed("sender-start"))
			require.NoError(t, err)
			defer world.close()
			w := world.(*routedWorld)
			r, err := w.cast(w.op, bySubject)
			require.NoError(t, err)
			require.NoError(t, r.cmd.Start())
			r.started(r.cmd.Process.Pid)
			require.True(t, eventually(func() bool { return r.diary.ready.Load() != 0 }), "%s", r.said())
			require.NoError(t, w.begins())
			require.False(t, w.attached())
			if c.starts {
				r.diary.going.Store(1)
				require.True(t, eventually(func() bool { return r.diary.result.Load() == success }), "%s", r.said())
				require.True(t, w.attached())
				r.diary.result.Store(pending) // as if it had died on its way back
			}
			if c.deaf {
				w.pipe.Handle(w.deliver, nil)
			}
			r.cmd.Process.Kill()
			r.cmd.Wait()
			require.NoError(t, w.aftermath([]*role{r}))
			if c.deaf {
				patience = 100 * time.Millisecond
			}
			w.rest()()
			if c.whether == "" {
				require.Empty(t, w.verdict().complaints)
				require.Equal(t, c.starts, w.ended)
				return
			}
			require.Len(t, w.verdict().complaints, 1)
			require.Contains(t, w.verdict().complaints[0], c.whether)
		})
	}
}
