package inspect

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/ring"
)

// playElsewhere consumes a ring that has the path in a mount namespace of its own only.
func playElsewhere(path string, in *bufio.Reader) error {
	if err := unix.Mount("none", filepath.Dir(path), "tmpfs", 0, ""); err != nil {
		return err
	}
	r, err := ring.Create(path, ring.Options{Capacity: ring.MinCapacity})
	if err != nil {
		return err
	}
	defer r.Close()
	return playConsumer(path, in)
}

// A path that a process in another mount namespace has means nothing here, and least of all the dead file that has it.
func TestSegmentElsewhere(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may mount")
	}
	path := newRing(t)
	p := prepare(t, "elsewhere", path)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	p.begin()
	all, _ := Find([]string{filepath.Dir(path)})
	names := map[string]bool{}
	for _, f := range all {
		names[f.Name] = true
		s, err := Open(f.Name)
		if err != nil {
			continue // somebody else's, and gone
		}
		require.Equal(t, f.ID, s.ID, f.Name)
		if f.Name == path {
			require.Equal(t, Stale, mustSnapshot(t, s).State)
			require.Empty(t, f.Holders)
		} else if strings.HasPrefix(f.Name, fmt.Sprint(p.cmd.Process.Pid, ":")) {
			require.Equal(t, Alive, mustSnapshot(t, s).State)
			require.Empty(t, f.Path)
			names["the living"] = true
		}
		s.Close()
	}
	require.True(t, names[path])
	require.True(t, names["the living"], "%v", names)
}

// A file of holes that begins as a segment is none, and gets no memory by being looked at.
func TestHolesAreNotFilled(t *testing.T) {
	whole, path := newRing(t), newPath(t)
	begin, err := os.ReadFile(whole)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, begin[:4096], 0o600))
	require.NoError(t, os.Truncate(path, int64(len(begin))))
	blocks := func() int64 {
		var st unix.Stat_t
		require.NoError(t, unix.Stat(path, &st))
		return st.Blocks
	}
	before := blocks()
	require.LessOrEqual(t, before*512, int64(4096))
	_, err = Open(path)
	require.ErrorIs(t, err, ring.ErrTruncated)
	require.Equal(t, before, blocks())
}

// Files that are not in memory and that nobody maps are not even opened: whoever has a lease on one would feel it.
func TestFilesOfOthersAreNotOpened(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	defer f.Close()
	if inMemory(f.Name()) {
		t.Skip("temporary files are in memory here")
	}
	_, err = f.Write(make([]byte, 1<<20))
	require.NoError(t, err)
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skip("no leases here:", err)
	}
	Find(nil)
	lease, err := unix.FcntlInt(f.Fd(), unix.F_GETLEASE, 0)
	require.NoError(t, err)
	require.EqualValues(t, unix.F_WRLCK, lease, "it is being broken")
}

// Of a ring in which some messages were consumed, every bit of head that is turned over is found, but for those that
// lead to another record's end.
func TestCheckFindsAWrongHead(t *testing.T) {
	path := newRing(t)
	send(t, path, 36)
	c := start(t, "consumer", path)
	require.Eventually(t, func() bool { return mustSnapshot(t, mustOpen(t, path)).Positions.Head == 36 }, patience, 1e6)
	c.kill()
	const head = 8192
	for bit := range 45 { // a lap's tag, and with it every word, is the same 2⁴⁵ granules on
		flip(t, path, head, bit)
		found, err := mustOpen(t, path).Check()
		require.NoError(t, err)
		if bit >= 6 {
			require.NotEmpty(t, found, "bit %d", bit)
			require.Equal(t, Damage, found[0].Severity)
		}
		flip(t, path, head, bit)
	}
	found, err := mustOpen(t, path).Check()
	require.NoError(t, err)
	require.Empty(t, found)
}

// A directory whose first word is damaged is not taken for an area that no router used.
func TestCheckFindsALostDirectory(t *testing.T) {
	path := newPath(t)
	start(t, "router", path).kill()
	off, _ := mustOpen(t, path).Ring.User()
	for bit := 16; bit < 64; bit++ { // below is the version
		flip(t, path, off, bit)
		found, err := mustOpen(t, path).Check()
		require.NoError(t, err)
		require.NotEmpty(t, found, "bit %d", bit)
		require.Equal(t, Damage, found[0].Severity)
		flip(t, path, off, bit)
	}
}

// Whatever processes are killed at, from their first instruction on, what they leave behind is no damage: neither
// while one still runs, nor when all are dead, nor when others have gone on there and were killed in turn.
func TestNoDeathIsDamage(t *testing.T) {
	undamaged := func(path, when string) {
		found, err := mustOpen(t, path).Check()
		require.NoError(t, err)
		for _, f := range found {
			require.Equal(t, Remnant, f.Severity, "%s: %v", when, f)
		}
	}
	const segments, generations = 5, 4
	for range segments {
		path := newRing(t)
		for range generations {
			peers := []*peer{prepare(t, "consumer", path), prepare(t, "flood", path), prepare(t, "flood", path)}
			before := mustSnapshot(t, mustOpen(t, path)).Positions.Head
			for _, p := range peers[:2] {
				p.begin()
			}
			require.NoError(t, peers[2].cmd.Start()) // may die before it is there
			s := mustOpen(t, path)
			far := before + rand.Uint64N(3*ring.MinCapacity/ring.Granule)
			require.Eventually(t, func() bool { return s.Ring.Head() >= far }, patience, 100*time.Microsecond)
			for _, i := range rand.Perm(len(peers)) {
				peers[i].kill()
				undamaged(path, "others live on")
			}
			undamaged(path, "all are dead")

			at := mustSnapshot(t, s).Positions
			if at.Head == at.Frontier {
				continue // the consumer was the last to die
			}
			// The ring is nearly full now, where head is not judged: one more consumer dies as it makes room.
			from := at.Head
			c := prepare(t, "consumer", path)
			require.NoError(t, c.cmd.Start())
			for end := time.Now().Add(patience); s.Ring.Head() == from && time.Now().Before(end); {
				runtime.Gosched()
			}
			c.kill()
			require.NotEqual(t, from, s.Ring.Head())
			undamaged(path, "a consumer has died in what the dead have left")
		}
	}
}

// A record of somebody who never was is damage.
func TestCheckFindsAnOwnerThatNeverWas(t *testing.T) {
	path := newRing(t)
	send(t, path, 1)
	const table, owner = 45056, 37
	flip(t, path, table, owner+6)
	found, err := mustOpen(t, path).Check()
	require.NoError(t, err)
	require.NotEmpty(t, found)
	require.Contains(t, found[0].Text, "slot 64, which was never taken")
}

// A file whose name is as long as can be is pruned, too.
func TestPruneALongName(t *testing.T) {
	path := filepath.Join(filepath.Dir(newPath(t)), strings.Repeat("a", unix.NAME_MAX))
	whole, err := os.ReadFile(newRing(t))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, whole, 0o600))
	requireRemoved(t, path, PruneOptions{Resumable: true})
}

func send(t *testing.T, path string, n int) {
	t.Helper()
	r, err := ring.OpenPath(path)
	require.NoError(t, err)
	defer r.Close()
	a, err := r.Attach()
	require.NoError(t, err)
	defer a.Close()
	p := a.NewProducer()
	for range n {
		require.NoError(t, p.TrySend(nil, 0))
	}
}

// flip turns a bit of a word over, numbered from its low end as numbers of this machine are.
func flip(t *testing.T, path string, off int64, bit int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	b := make([]byte, 1)
	_, err = f.ReadAt(b, off+int64(bit/8))
	require.NoError(t, err)
	b[0] ^= 1 << (bit % 8)
	_, err = f.WriteAt(b, off+int64(bit/8))
	require.NoError(t, err)
}
