package logwire

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"reflect"
	"time"
)

// Scope is what a handler's WithAttrs and WithGroup have gathered, encoded: attributes, with the groups around
// what comes next left open. It is a value that does not change; the zero one is empty.
type Scope struct {
	attrs  []byte // encoded, the last `depth` groups open; has no capacity to spare, so that appending copies
	count  int    // attributes and groups in attrs
	depth  int
	groups []string // opened since: they are written once an attribute follows
	err    error
}

// WithGroup returns a scope in which what comes next is in a group.
func (s Scope) WithGroup(name string) Scope {
	s.groups = append(s.groups[:len(s.groups):len(s.groups)], name)
	return s
}

// WithAttrs returns a scope in which attrs come before what comes next.
func (s Scope) WithAttrs(attrs []slog.Attr) Scope {
	e := encoder{buf: s.attrs, count: s.count, depth: s.depth, err: s.err}
	if e.inGroups(s.groups, func() {
		for _, a := range attrs {
			e.attr(a)
		}
	}) {
		s.groups = nil
	}
	return Scope{attrs: e.buf[:len(e.buf):len(e.buf)], count: e.count, depth: e.depth, groups: s.groups, err: e.err}
}

// AppendSource appends a source as AppendRecord takes it.
func AppendSource(buf []byte, src *slog.Source) []byte {
	buf = appendText(buf, src.Function)
	buf = appendText(buf, src.File)
	return binary.AppendUvarint(buf, uint64(max(src.Line, 0)))
}

// AppendRecord appends r as it appears in the scope. The source, from AppendSource, may be nil; r.PC is not
// looked at. The error is ErrLimit.
func AppendRecord(buf []byte, r *slog.Record, source []byte, dropped uint64, s *Scope) ([]byte, error) {
	var flags byte
	if !r.Time.IsZero() {
		flags |= flagTime
	}
	if source != nil {
		flags |= flagSource
	}
	buf = append(buf, magic, version, flags)
	buf = binary.AppendVarint(buf, int64(r.Level))
	buf = binary.AppendUvarint(buf, dropped)
	if flags&flagTime != 0 {
		buf = appendTime(buf, r.Time)
	}
	buf = append(buf, source...)
	buf = appendText(buf, r.Message)
	buf = append(buf, s.attrs...)

	e := encoder{buf: buf, count: s.count, depth: s.depth, err: s.err}
	e.inGroups(s.groups, func() {
		r.Attrs(func(a slog.Attr) bool {
			e.attr(a)
			return e.err == nil
		})
	})
	for range e.depth {
		e.buf = append(e.buf, tagEnd)
	}
	return e.buf, e.err
}

// encoder appends attributes to buf. After an error it appends what does not matter any more.
type encoder struct {
	buf   []byte
	count int
	depth int
	err   error
}

// inGroups opens the groups, and has fill append what is in them, and reports whether it appended anything:
// otherwise the groups are not there either.
func (e *encoder) inGroups(groups []string, fill func()) bool {
	before := *e
	for _, name := range groups {
		e.open(name)
	}
	start := len(e.buf)
	fill()
	if len(e.buf) > start {
		return true
	}
	e.buf, e.count, e.depth = e.buf[:len(before.buf)], before.count, before.depth
	return false
}

func (e *encoder) open(name string) {
	e.begin(tagGroup, name)
	e.depth++
	if e.depth > MaxDepth {
		e.err = ErrLimit
	}
}

func (e *encoder) begin(tag byte, key string) {
	e.buf = appendText(append(e.buf, tag), key)
	e.count++
	if e.count > MaxAttrs {
		e.err = ErrLimit
	}
}

// attr appends one attribute by the rules of slog.Handler: values are resolved, an empty attribute and an empty
// group are left out, and a group without a name is as if its attributes stood there.
func (e *encoder) attr(a slog.Attr) {
	if e.err != nil {
		return
	}
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindGroup:
		e.group(a.Key, v.Group())
	case slog.KindBool:
		tag := byte(tagFalse)
		if v.Bool() {
			tag = tagTrue
		}
		e.begin(tag, a.Key)
	case slog.KindInt64:
		e.begin(tagInt64, a.Key)
		e.buf = binary.AppendVarint(e.buf, v.Int64())
	case slog.KindUint64:
		e.begin(tagUint64, a.Key)
		e.buf = binary.AppendUvarint(e.buf, v.Uint64())
	case slog.KindFloat64:
		e.begin(tagFloat64, a.Key)
		e.buf = binary.LittleEndian.AppendUint64(e.buf, math.Float64bits(v.Float64()))
	case slog.KindString:
		e.begin(tagString, a.Key)
		e.buf = appendText(e.buf, v.String())
	case slog.KindDuration:
		e.begin(tagDuration, a.Key)
		e.buf = binary.AppendVarint(e.buf, int64(v.Duration()))
	case slog.KindTime:
		e.begin(tagTime, a.Key)
		e.buf = appendTime(e.buf, v.Time())
	default:
		if a.Key == "" && v.Any() == nil {
			return
		}
		e.any(a.Key, v.Any())
	}
}

func (e *encoder) group(name string, attrs []slog.Attr) {
	fill := func() {
		for _, a := range attrs {
			e.attr(a)
		}
	}
	if name != "" {
		if e.inGroups([]string{name}, fill) {
			e.buf = append(e.buf, tagEnd)
			e.depth--
		}
		return
	}
	// Its values may be made by LogValuers without end, as those of a named group may.
	if e.depth++; e.depth > MaxDepth {
		e.err = ErrLimit
	}
	fill()
	e.depth--
}

// any appends what has no kind of its own: as text, or as what slog.JSONHandler would make of it.
func (e *encoder) any(key string, v any) {
	before := *e
	defer func() {
		if r := recover(); r != nil { // of the value's own methods
			*e = before
			text := fmt.Sprintf("!PANIC: %v", r)
			if p := reflect.ValueOf(v); p.Kind() == reflect.Pointer && p.IsNil() {
				text = "<nil>"
			}
			e.begin(tagString, key)
			e.buf = appendText(e.buf, text)
		}
	}()
	_, marshals := v.(json.Marshaler)
	switch x := v.(type) {
	case nil:
		e.begin(tagNil, key)
		return
	case []byte:
		e.begin(tagBytes, key)
		e.buf = appendText(e.buf, x)
		return
	case error:
		if !marshals {
			text := x.Error()
			e.begin(tagError, key)
			e.buf = appendText(e.buf, text)
			return
		}
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		e.begin(tagString, key)
		e.buf = appendText(e.buf, "!ERROR:"+err.Error())
		return
	}
	e.begin(tagJSON, key)
	e.buf = appendText(e.buf, bytes.TrimSuffix(out.Bytes(), []byte("\n")))
}

func appendText[T string | []byte](buf []byte, s T) []byte {
	return append(binary.AppendUvarint(buf, uint64(len(s))), s...)
}

// maxOffset is beyond every zone's distance from UTC.
const maxOffset = 24 * 60 * 60

func appendTime(buf []byte, t time.Time) []byte {
	_, offset := t.Zone()
	if offset <= -maxOffset || offset >= maxOffset {
		offset = 0
	}
	buf = binary.AppendVarint(buf, t.Unix())
	buf = binary.AppendUvarint(buf, uint64(t.Nanosecond()))
	return binary.AppendVarint(buf, int64(offset))
}
