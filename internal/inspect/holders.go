package inspect

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// Holder is a process that has a segment's file open or mapped.
type Holder struct {
	PID     int    `json:"pid"`
	Process string `json:"process"` // its name, up to 15 bytes
	FDs     []int  `json:"fds"`
	Mapped  bool   `json:"mapped"`
}

// Census says which files the processes of this machine have open or mapped, as far as this process may know:
// it sees those of its own user, and of its own pid namespace and those below.
type Census struct {
	holders map[FileID][]Holder
	ways    map[FileID]string // a path in /proc that opens the file
	links   map[FileID]string

	// Hidden counts processes whose descriptors may not be looked at.
	Hidden int
}

// TakeCensus walks /proc once. The error is that of reading /proc itself: what one process hides, or takes along
// as it ends, is none.
func TakeCensus() (*Census, error) {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("who holds segments: %w", err)
	}
	c := &Census{holders: map[FileID][]Holder{}, ways: map[FileID]string{}, links: map[FileID]string{}}
	for _, d := range dirs {
		if pid, err := strconv.Atoi(d.Name()); err == nil {
			c.add(pid)
		}
	}
	return c, nil
}

// Holders returns who has the file.
func (c *Census) Holders(id FileID) []Holder { return c.holders[id] }

func (c *Census) mapped(id FileID) bool {
	return slices.ContainsFunc(c.holders[id], func(h Holder) bool { return h.Mapped })
}

func (c *Census) add(pid int) {
	dir := fmt.Sprintf("/proc/%d", pid)
	found := map[FileID]*Holder{}
	at := func(id FileID) *Holder {
		if found[id] == nil {
			found[id] = &Holder{PID: pid, FDs: []int{}}
		}
		return found[id]
	}
	fds, err := os.ReadDir(dir + "/fd")
	if errors.Is(err, fs.ErrPermission) {
		c.Hidden++
		return
	}
	for _, fd := range fds {
		n, err := strconv.Atoi(fd.Name())
		if err != nil {
			continue
		}
		way := dir + "/fd/" + fd.Name()
		link, err := os.Readlink(way)
		if err != nil || !mayBeSegment(link) {
			continue
		}
		var st unix.Stat_t
		if unix.Stat(way, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			continue
		}
		id := FileID{uint64(st.Dev), st.Ino}
		h := at(id)
		h.FDs = append(h.FDs, n)
		c.ways[id], c.links[id] = fmt.Sprintf("%d:%d", pid, n), link
	}
	for _, id := range sharedMappings(dir + "/maps") {
		at(id).Mapped = true
	}
	for id, h := range found {
		h.Process = processName(pid)
		c.holders[id] = append(c.holders[id], *h)
	}
}

// mayBeSegment leaves out what is known without a look at the file.
func mayBeSegment(link string) bool {
	for _, other := range []string{"/proc/", "/sys/", "/dev/pts/", "/dev/null"} {
		if strings.HasPrefix(link, other) {
			return false
		}
	}
	return strings.HasPrefix(link, "/")
}

// sharedMappings reads lines such as
//
//	7f2c4e000000-7f2c4e800000 rw-s 00000000 00:01 4242   /memfd:shmrouter (deleted)
func sharedMappings(path string) (ids []FileID) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 5 || len(f[1]) != 4 || f[1][3] != 's' || f[4] == "0" {
			continue
		}
		major, minor, _ := strings.Cut(f[3], ":")
		maj, err1 := strconv.ParseUint(major, 16, 32)
		min, err2 := strconv.ParseUint(minor, 16, 32)
		ino, err3 := strconv.ParseUint(f[4], 10, 64)
		if err1 != nil || err2 != nil || err3 != nil {
			continue
		}
		if id := (FileID{unix.Mkdev(uint32(maj), uint32(min)), ino}); !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// processName returns what the process calls itself, or "".
func processName(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return ""
	}
	name := strings.TrimSuffix(string(b), "\n")
	if name == "exe" { // started by /proc/self/exe, as programs do that are their own worker
		if link, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil {
			name = filepath.Base(strings.TrimSuffix(link, " (deleted)"))
		}
	}
	return name
}

// isStopped tells whether the process does not run, and will not until somebody lets it.
func isStopped(pid int) bool {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	state := b[bytes.LastIndexByte(b, ')')+1:] // the name in front may hold anything
	return len(state) > 1 && (state[1] == 'T' || state[1] == 't')
}

// Found is a segment that Find came upon.
type Found struct {
	Name    string // to be given to Open
	ID      FileID
	Path    string // "" for a file without one
	Holders []Holder
}

// Note says what Find could not look at.
type Note struct {
	Text string
	What Unseen
}

// Unseen is a kind of thing that Find could not look at.
type Unseen int

const (
	Processes   Unseen = iota // of other users, or all where there is no /proc
	File                      // in a directory, which may be a segment
	Directories               // one of those that were asked for
)

// Find looks for segments, each of them once: the files in the directories, and what processes have open. Only
// the first bytes are looked at; of directories only what is in them, not in those below.
func Find(dirs []string) (all []Found, notes []Note) {
	note := func(what Unseen, format string, args ...any) {
		notes = append(notes, Note{fmt.Sprintf(format, args...), what})
	}
	census, err := TakeCensus()
	if err != nil {
		note(Processes, "%v", err)
		census = &Census{}
	}
	if census.Hidden > 0 {
		note(Processes, "%d processes of other users were not looked at", census.Hidden)
	}
	seen := map[FileID]bool{}
	for _, dir := range dirs {
		files, err := os.ReadDir(dir)
		if err != nil {
			note(Directories, "%s: %v", dir, reason(err))
			continue
		}
		for _, f := range files {
			path := filepath.Join(dir, f.Name())
			id, ok, err := sniff(path)
			if errors.Is(err, fs.ErrPermission) {
				note(File, "%s: %v", path, reason(err))
			}
			if ok && !seen[id] {
				seen[id] = true
				all = append(all, Found{Name: path, ID: id, Path: path, Holders: census.Holders(id)})
			}
		}
	}
	for id, way := range census.ways {
		if seen[id] {
			continue
		}
		path, _ := Locate(way)
		if !inMemory(path) && !census.mapped(id) {
			continue // somebody's file: opening it would be felt, by a lease, an access time, a server
		}
		if now, ok, _ := sniff(path); !ok || now != id {
			continue
		}
		f := Found{Name: way, ID: id, Holders: census.Holders(id)}
		if link := census.links[id]; leadsTo(link, id) {
			f.Name, f.Path = link, link
		}
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b Found) int { return strings.Compare(a.Name, b.Name) })
	return all, notes
}

// inMemory tells whether the file is on a file system in memory, as memory files and those of /dev/shm are.
func inMemory(path string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(path, &fs) == nil && (fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.HUGETLBFS_MAGIC)
}

// leadsTo tells whether a descriptor's link is a path to its file here. It may be gone, be one of another mount
// namespace, or have been none ever.
func leadsTo(link string, id FileID) bool {
	var st unix.Stat_t
	return unix.Lstat(link, &st) == nil && (FileID{uint64(st.Dev), st.Ino}) == id
}

// sniff looks whether a file begins like a segment.
func sniff(path string) (id FileID, ok bool, err error) {
	f, err := openRegular(path)
	if errors.Is(err, shm.ErrNotRegular) {
		return id, false, nil
	}
	if err != nil {
		return id, false, err
	}
	defer f.Close()
	first := make([]byte, 8)
	if n, _ := f.ReadAt(first, 0); !ring.HasMagic(first[:n]) {
		return id, false, nil
	}
	id, err = idOf(f)
	return id, err == nil, err
}
