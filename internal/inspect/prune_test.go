package inspect

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

func requireKept(t *testing.T, path, because string, o PruneOptions) {
	t.Helper()
	v, err := Prune(path, o)
	require.NoError(t, err)
	require.False(t, v.Removed)
	require.Contains(t, v.Reason, because)
	require.FileExists(t, path)
}

func requireRemoved(t *testing.T, path string, o PruneOptions) {
	t.Helper()
	v, err := Prune(path, o)
	require.NoError(t, err)
	require.True(t, v.Removed, v.Reason)
	require.NotEmpty(t, v.Reason)
	left, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestPruneNamesTheFileOnce(t *testing.T) {
	path := newPath(t)
	require.NoError(t, os.WriteFile(path, make([]byte, 8192), 0o600))
	_, err := Prune(path, PruneOptions{})
	require.ErrorIs(t, err, ring.ErrUnfinished)
	require.EqualError(t, err, path+": "+ring.ErrUnfinished.Error())
	link := path + "-link"
	require.NoError(t, os.Symlink(path, link))
	_, err = Open(link)
	require.ErrorContains(t, err, "links are not followed")
}

func TestPruneADeadRouter(t *testing.T) {
	path := newPath(t)
	r := start(t, "router", path)
	requireKept(t, path, "its consumer is alive", PruneOptions{})
	r.kill()
	requireKept(t, path, "younger than 1h", PruneOptions{MinAge: time.Hour})
	v, err := Prune(path, PruneOptions{DryRun: true})
	require.NoError(t, err)
	require.True(t, v.Removed)
	require.Contains(t, v.Reason, "is dead")
	require.FileExists(t, path)
	requireRemoved(t, path, PruneOptions{})
	_, err = Prune(path, PruneOptions{})
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestPruneKeepsWhatMayBeResumed(t *testing.T) {
	path := newPath(t)
	start(t, "resumable", path).kill()
	requireKept(t, path, "another router may resume here", PruneOptions{})
	requireRemoved(t, path, PruneOptions{Resumable: true})

	path = newRing(t)
	requireKept(t, path, "no router used it", PruneOptions{})
	requireRemoved(t, path, PruneOptions{Resumable: true})
}

func TestPruneKeepsWhatSomebodyHolds(t *testing.T) {
	path := newRing(t)
	all := PruneOptions{Resumable: true}
	p := start(t, "producer", path)
	requireKept(t, path, "holds slot 0", all)
	p.kill()

	c := start(t, "consumer", path)
	requireKept(t, path, "its consumer is alive", all)
	c.kill()

	o := start(t, "opener", path)
	io.WriteString(o.input, "\n")
	o.awaitReady()
	requireKept(t, path, "has it open", all)
	o.leave()
	requireRemoved(t, path, all)
}

func TestPruneRefusesWhatItDoesNotKnow(t *testing.T) {
	path := newRing(t)
	all := PruneOptions{Resumable: true}
	require.NoError(t, os.Link(path, path+".2"))
	requireKept(t, path, "2 names", all)
	require.NoError(t, os.Remove(path+".2"))

	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte{9}, 12)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	_, err = Prune(path, all)
	require.ErrorIs(t, err, ring.ErrVersion)
	require.FileExists(t, path)

	require.NoError(t, os.Remove(path))
	require.NoError(t, os.Mkdir(path, 0o700))
	_, err = Prune(path, all)
	require.ErrorIs(t, err, shm.ErrNotRegular)
}

func TestPruneKeepsOtherUsersFiles(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("takes root, to give a file to another user")
	}
	path := newRing(t)
	require.NoError(t, os.Chown(path, 12345, -1))
	requireKept(t, path, "another user", PruneOptions{Resumable: true})
}

// Somebody opens the file after it was found dead, and before it is gone.
func TestPruneGivesTheNameBack(t *testing.T) {
	path := newRing(t)
	late := start(t, "opener", path)
	afterHiding = func() {
		names, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".segment.prune-*"))
		require.NoError(t, err)
		require.Len(t, names, 1)
		require.NoFileExists(t, path)
		r, err := ring.OpenPath(names[0])
		require.NoError(t, err)
		defer r.Close()
		_, err = r.Consume()
		require.ErrorIs(t, err, ring.ErrConsumerBusy, "nobody comes in meanwhile")
		_, err = r.Attach()
		require.ErrorIs(t, err, ring.ErrRosterFull)
		// What opened it before the name went has it open now.
		require.NoError(t, os.Link(names[0], path))
		io.WriteString(late.input, "\n")
		late.awaitReady()
		require.NoError(t, os.Remove(path))
	}
	t.Cleanup(func() { afterHiding = func() {} })
	requireKept(t, path, "has it open", PruneOptions{Resumable: true})
	afterHiding = func() {}
	late.leave()
	requireRemoved(t, path, PruneOptions{Resumable: true})
}

// Another file takes the path between the look and the rename.
func TestPruneKeepsAnotherFileOfTheSameName(t *testing.T) {
	path := newRing(t)
	s := mustOpen(t, path)
	require.NoError(t, os.Rename(path, path+".old"))
	require.NoError(t, os.WriteFile(path, []byte("precious"), 0o600))
	err := s.remove(path)
	require.ErrorAs(t, err, new(keep))
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "precious", string(b))
}

// Who came between the look and the locks keeps the file.
func TestPruneLosesARace(t *testing.T) {
	path := newRing(t)
	s := mustOpen(t, path)
	start(t, "producer", path)
	require.ErrorAs(t, s.remove(path), new(keep))
	require.FileExists(t, path)
}

// A dry run says what a run would, also where it may not.
func TestDryRunAsksForAccess(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may do everything")
	}
	path := newRing(t)
	require.NoError(t, os.Chmod(path, 0o400))
	for _, dry := range []bool{true, false} {
		_, err := Prune(path, PruneOptions{Resumable: true, DryRun: dry})
		require.ErrorIs(t, err, fs.ErrPermission)
	}
	require.NoError(t, os.Chmod(path, 0o600))
	dir := filepath.Dir(path)
	require.NoError(t, os.Chmod(dir, 0o500))
	defer os.Chmod(dir, 0o700)
	for _, dry := range []bool{true, false} {
		_, err := Prune(path, PruneOptions{Resumable: true, DryRun: dry})
		require.ErrorIs(t, err, fs.ErrPermission)
	}
}
