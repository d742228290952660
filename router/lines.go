package router

import (
	"bytes"
	"context"
	"log/slog"
	"os/exec"
	"strings"
	"sync"
	"unicode/utf8"
)

// maxLine is how much of one line of a worker's output is logged, in bytes. It is also what one stream's memory is
// bounded by.
const maxLine = 8 << 10

// lines writes one stream of a worker's output to a logger, a record for each line. What is longer than maxLine is
// cut: its beginning is logged at once, with a mark, and how much of it was left out when it ends.
type lines struct {
	log    *slog.Logger
	level  slog.Level
	cmd    *exec.Cmd // whose process is known by the first Write
	attrs  []slog.Attr
	mu     sync.Mutex // a child that holds the stream open may still write while the rest is logged
	line   []byte     // what has come of a line
	cut    bool       // its beginning was logged
	left   int        // bytes left out since
	closed bool
}

func newLines(log *slog.Logger, cmd *exec.Cmd, worker, stream string) *lines {
	level := slog.LevelInfo
	if stream == "stderr" {
		level = slog.LevelWarn
	}
	return &lines{log: log, level: level, cmd: cmd, attrs: []slog.Attr{slog.String("worker", worker), slog.String("stream", stream)}}
}

// Write is called by os/exec. It never fails: that would end the stream.
func (o *lines) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for rest := b; len(rest) > 0 && !o.closed; {
		part, next, ended := bytes.Cut(rest, []byte{'\n'})
		o.add(part)
		if ended {
			o.end()
		}
		rest = next
	}
	return len(b), nil
}

// close logs what has come of the last line.
func (o *lines) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.line) > 0 || o.cut {
		o.end()
	}
	o.closed, o.line = true, nil
}

func (o *lines) add(part []byte) {
	if o.cut {
		o.left += len(part)
		return
	}
	room := maxLine - len(o.line)
	if len(part) <= room {
		o.line = append(o.line, part...)
		return
	}
	o.line = append(o.line, part[:room]...)
	for back := 1; back < utf8.UTFMax && !utf8.Valid(o.line[len(o.line)-back:]); back++ { // not within a character
		if utf8.RuneStart(o.line[len(o.line)-back]) {
			o.line, room = o.line[:len(o.line)-back], room-back
			break
		}
	}
	o.record(string(o.line)+"…", slog.Bool("cut", true))
	o.line, o.cut, o.left = o.line[:0], true, len(part)-room
}

func (o *lines) end() {
	if o.cut {
		o.record("…", slog.Int("left_out", o.left))
	} else {
		o.record(strings.TrimSuffix(string(o.line), "\r"))
	}
	o.line, o.cut, o.left = o.line[:0], false, 0
}

func (o *lines) record(text string, more ...slog.Attr) {
	attrs := append([]slog.Attr{slog.Int("pid", o.cmd.Process.Pid)}, o.attrs...)
	o.log.LogAttrs(context.Background(), o.level, text, append(attrs, more...)...)
}
