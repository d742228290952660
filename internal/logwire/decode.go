package logwire

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"
)

// Decode reads a record, and how many were dropped before it. A source comes as an attribute, slog.SourceKey, in
// front of the others: the record's PC is 0. Byte slices and JSON refer to data; nothing else does. The error
// matches ErrMalformed.
func Decode(data []byte) (rec slog.Record, dropped uint64, err error) {
	d := decoder{data: data, text: string(data)}
	rec, dropped = d.record()
	if d.err != nil {
		return slog.Record{}, 0, fmt.Errorf("%w: %s at byte %d of %d", ErrMalformed, d.err, d.at, len(data))
	}
	return rec, dropped, nil
}

// decoder reads from data at `at`. The first error stays; after it every read returns zero.
type decoder struct {
	data  []byte
	text  string // of the same bytes: texts are parts of it
	at    int
	count int
	err   error
}

var (
	errShort = errors.New("ends too early")
	errTag   = errors.New("kind of value unknown")
	errTime  = errors.New("no such time")
	errJSON  = errors.New("bad JSON")
)

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

func (d *decoder) record() (rec slog.Record, dropped uint64) {
	if d.byte() != magic {
		d.fail(errors.New("begins otherwise"))
		return
	}
	if v := d.byte(); v != version && d.err == nil {
		d.fail(fmt.Errorf("is of version %d, not %d", v, version))
		return
	}
	flags := d.byte()
	if flags&^(flagTime|flagSource) != 0 {
		d.fail(fmt.Errorf("has flags %#x", flags))
	}
	rec.Level = slog.Level(d.varint())
	dropped = d.uvarint()
	if flags&flagTime != 0 {
		rec.Time = d.time()
	}
	var src *slog.Source
	if flags&flagSource != 0 {
		src = &slog.Source{Function: d.string(), File: d.string()}
		line := d.uvarint()
		if line > math.MaxInt32 {
			d.fail(errors.New("no such line"))
		}
		src.Line = int(line)
	}
	rec.Message = d.string()
	if src != nil {
		rec.AddAttrs(slog.Any(slog.SourceKey, src))
	}
	for d.at < len(d.data) && d.err == nil {
		a, end := d.attr(0)
		if end {
			d.fail(errors.New("end of a group where none is open"))
		}
		if d.err == nil {
			rec.AddAttrs(a)
		}
	}
	return rec, dropped
}

// attr reads an attribute, or the end of a group.
func (d *decoder) attr(depth int) (a slog.Attr, end bool) {
	tag := d.byte()
	if tag == tagEnd || d.err != nil {
		return a, true
	}
	if d.count++; d.count > MaxAttrs {
		d.fail(ErrLimit)
	}
	a.Key = d.string()
	switch tag {
	case tagNil:
	case tagFalse, tagTrue:
		a.Value = slog.BoolValue(tag == tagTrue)
	case tagInt64:
		a.Value = slog.Int64Value(d.varint())
	case tagUint64:
		a.Value = slog.Uint64Value(d.uvarint())
	case tagFloat64:
		if b := d.bytes(8); b != nil {
			a.Value = slog.Float64Value(math.Float64frombits(binary.LittleEndian.Uint64(b)))
		}
	case tagString:
		a.Value = slog.StringValue(d.string())
	case tagDuration:
		a.Value = slog.DurationValue(time.Duration(d.varint()))
	case tagTime:
		a.Value = slog.TimeValue(d.time())
	case tagError:
		a.Value = slog.AnyValue(errors.New(d.string()))
	case tagJSON:
		b := d.bytes(d.uvarint())
		if d.err == nil && !json.Valid(b) {
			d.fail(errJSON)
		}
		a.Value = slog.AnyValue(json.RawMessage(b))
	case tagBytes:
		a.Value = slog.AnyValue(d.bytes(d.uvarint()))
	case tagGroup:
		a.Value = slog.GroupValue(d.group(depth + 1)...)
	default:
		d.fail(errTag)
	}
	return a, false
}

func (d *decoder) group(depth int) (attrs []slog.Attr) {
	if depth > MaxDepth {
		d.fail(ErrLimit)
	}
	for d.err == nil {
		a, end := d.attr(depth)
		if end {
			break
		}
		attrs = append(attrs, a)
	}
	return attrs
}

func (d *decoder) byte() byte {
	if b := d.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

// bytes returns the next n, nil if there are less.
func (d *decoder) bytes(n uint64) []byte {
	if d.err == nil && n > uint64(len(d.data)-d.at) {
		d.fail(errShort)
	}
	if d.err != nil {
		return nil
	}
	from := d.at
	d.at += int(n)
	return d.data[from:d.at:d.at]
}

func (d *decoder) string() string {
	b := d.bytes(d.uvarint())
	return d.text[d.at-len(b) : d.at]
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.data[d.at:])
	return number(d, v, n)
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.data[d.at:])
	return number(d, v, n)
}

func number[T int64 | uint64](d *decoder, v T, n int) T {
	if n <= 0 {
		d.fail(errShort)
	}
	if d.err != nil {
		return 0
	}
	d.at += n
	return v
}

func (d *decoder) time() time.Time {
	sec, nsec, offset := d.varint(), d.uvarint(), d.varint()
	if nsec >= 1e9 || offset <= -maxOffset || offset >= maxOffset {
		d.fail(errTime)
		return time.Time{}
	}
	t := time.Unix(sec, int64(nsec))
	if offset == 0 {
		return t.UTC()
	}
	if _, here := t.Zone(); here == int(offset) {
		return t
	}
	return t.In(time.FixedZone("", int(offset)))
}
