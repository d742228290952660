package main

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/internal/hosttest"
	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/ring"
)

// A child has nothing of its parent's seat, and does not keep it.
func TestChildren(t *testing.T) {
	path := ringtest.Path(t)
	r := newRing(t, path)
	p := obedient(t, path, 1)
	var child int
	_, err := fmt.Sscan(p.ask("fork"), &child)
	require.NoError(t, err)
	defer unix.Kill(child, unix.SIGKILL)
	held, err := r.SlotHeld(0)
	require.NoError(t, err)
	require.True(t, held)
	require.Error(t, p.kill())
	require.NoError(t, unix.Kill(child, 0))
	freed(t, r, 0)
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", child))
	require.NoError(t, err)
	require.Contains(t, string(maps), "[stack]", "it lives on")
	require.NotContains(t, string(maps), path)
}

// It takes a seat, names itself there, and leaves nothing but figures.
func TestSeat(t *testing.T) {
	path := ringtest.Path(t)
	r := newRing(t, path)
	taken := ringtest.Attach(t, r)
	c := ringtest.Consume(t, r)
	p := obedient(t, path, 1)
	defer p.kill()
	start, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	require.NoError(t, err)
	info := r.SlotInfo(1)
	require.EqualValues(t, 1, info.Instance)
	require.Equal(t, p.cmd.Process.Pid, info.PID)
	require.Equal(t, strings.Fields(string(start))[21], fmt.Sprint(info.Start))
	own := r.SlotInfo(taken.Slot())
	require.Equal(t, own.PIDNamespace, info.PIDNamespace)
	require.InDelta(t, own.Joined, info.Joined, float64(time.Minute))
	require.Equal(t, "success", p.ask("send 100 0"))
	require.Equal(t, "success", p.ask("send 0 0"))
	got := receive(t, c, 2)
	require.Empty(t, got[1].Data)
	require.Equal(t, 1, got[1].Slot)
	info = r.SlotInfo(1)
	require.EqualValues(t, 2, info.Records)
	require.EqualValues(t, 100, info.Bytes)
	require.Equal(t, "message too large", p.ask("send 8193 0"))
	require.Equal(t, "meta value out of range", p.ask("meta"))
	require.Equal(t, "1", p.ask("alive"))
	require.NoError(t, c.Close())
	require.Equal(t, "0", p.ask("alive"))
	require.Equal(t, "not attached", p.ask("close"))
	require.Zero(t, r.SlotInfo(1).PID)
	held, err := r.SlotHeld(1)
	require.NoError(t, err)
	require.False(t, held)
}

func TestNoSeat(t *testing.T) {
	path := ringtest.Path(t)
	r := newRing(t, path)
	restore, err := hosttest.Limit(unix.RLIMIT_NOFILE, 2048)
	require.NoError(t, err)
	defer restore()
	for range ring.MaxSlots {
		ringtest.Attach(t, r)
	}
	refused(t, path, "all producer slots are taken")
}

// What is no ring, or another one, is refused with a reason, and left as it is.
func TestWrongFiles(t *testing.T) {
	path := ringtest.Path(t)
	r, err := ring.Create(path, ringtest.Tiny)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	seal := func(b []byte) {
		h := fnv.New64a()
		h.Write(b[8:96])
		binary.NativeEndian.PutUint64(b[96:], h.Sum64())
	}
	order := binary.NativeEndian
	for name, c := range map[string]struct {
		change func(b []byte) []byte
		want   string
	}{
		"empty":         {func(b []byte) []byte { return nil }, "truncated"},
		"a page":        {func(b []byte) []byte { return b[:4096] }, "truncated"},
		"half":          {func(b []byte) []byte { return b[:len(b)/2] }, "truncated"},
		"a byte short":  {func(b []byte) []byte { return b[:len(b)-1] }, "truncated"},
		"zeros":         {func(b []byte) []byte { return make([]byte, len(b)) }, "never finished"},
		"text":          {func(b []byte) []byte { copy(b, "#!/bin/sh\n"); return b }, "not a ring"},
		"another magic": {func(b []byte) []byte { b[7]++; return b }, "not a ring"},
		"other order":   {func(b []byte) []byte { order.PutUint32(b[8:], 0x04030201); seal(b); return b }, "byte order"},
		"no order":      {func(b []byte) []byte { order.PutUint32(b[8:], 0x04030202); seal(b); return b }, "geometry"},
		"next version":  {func(b []byte) []byte { order.PutUint32(b[12:], ring.Version+1); seal(b); return b }, "layout version"},
		"checksum":      {func(b []byte) []byte { b[64]++; return b }, "geometry"},
		"capacity":      {func(b []byte) []byte { order.PutUint64(b[24:], 1<<17); seal(b); return b }, "geometry"},
		"odd capacity":  {func(b []byte) []byte { order.PutUint64(b[24:], 1<<16+64); seal(b); return b }, "geometry"},
		"no capacity":   {func(b []byte) []byte { order.PutUint64(b[24:], 0); seal(b); return b }, "geometry"},
		"data offset":   {func(b []byte) []byte { order.PutUint64(b[40:], 1<<20); seal(b); return b }, "geometry"},
		"user area":     {func(b []byte) []byte { order.PutUint64(b[56:], 1<<62); seal(b); return b }, "geometry"},
		"granule":       {func(b []byte) []byte { order.PutUint32(b[88:], 128); seal(b); return b }, "geometry"},
		"slots":         {func(b []byte) []byte { order.PutUint32(b[92:], 256); seal(b); return b }, "geometry"},
	} {
		t.Run(name, func(t *testing.T) {
			wrong := filepath.Join(t.TempDir(), "ring")
			b := c.change(append([]byte{}, whole...))
			require.NoError(t, os.WriteFile(wrong, b, 0o600))
			refused(t, wrong, c.want)
			after, err := os.ReadFile(wrong)
			require.NoError(t, err)
			require.Equal(t, len(b), len(after))
			require.Equal(t, string(b), string(after), "it was changed")
		})
	}
	refused(t, filepath.Join(t.TempDir(), "nothing"), "No such file or directory")
	refused(t, t.TempDir(), "Is a directory")
	refused(t, "/dev/null", "not a ring")
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(path, link))
	refused(t, link, "Too many levels of symbolic links")
	fifo := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, unix.Mkfifo(fifo, 0o600))
	refused(t, fifo, "not a ring")
}

// refused requires that a producer says why it does not attach.
func refused(t *testing.T, path, want string) {
	t.Helper()
	out, err := exec.Command(compile(t, "testdata/driver.c"), "obey", path, "1").CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), want)
	require.NotContains(t, string(out), "slot ")
}

// Words that contradict the protocol are an error, and not a hang or a fault.
func TestScribbledOn(t *testing.T) {
	for name, scribble := range map[string]func(r *ring.Ring){
		"a newer lap":          func(r *ring.Ring) { r.Segment().Word64(45056).Store(2 | 9<<2 | 1<<45) },
		"a record of nothing":  func(r *ring.Ring) { r.Segment().Word64(45056).Store(2 | 1<<2) },
		"beyond the lap's end": func(r *ring.Ring) { r.Segment().Word64(45056).Store(2 | 1<<2 | 2000<<45) },
	} {
		t.Run(name, func(t *testing.T) {
			path := ringtest.Path(t)
			r, err := ring.Create(path, ringtest.Tiny)
			require.NoError(t, err)
			defer r.Close()
			p := obedient(t, path, 1)
			defer p.kill()
			scribble(r)
			require.Equal(t, "the segment is corrupt", p.ask("send 100 100"))
			refused(t, path, "the segment is corrupt")
			r.Segment().Word64(45056).Store(0)
			require.Equal(t, "success", p.ask("send 100 100"), "it recovers with the ring")
		})
	}
	path := ringtest.Path(t)
	r, err := ring.Create(path, ringtest.Tiny)
	require.NoError(t, err)
	defer r.Close()
	p := obedient(t, path, 1)
	defer p.kill()
	for _, off := range []int64{4096, 8192, 8320, 4352} { // hint, head, sleep, turn
		for _, garbage := range []uint64{1, 1 << 20, 1 << 63, ^uint64(0)} {
			was := r.Segment().Word64(off).Swap(garbage)
			p.ask("send 100 1") // whatever it says, it answers
			r.Segment().Word64(off).Store(was)
		}
	}
}
