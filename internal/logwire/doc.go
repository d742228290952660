// Package logwire is how a log record travels from a worker to the main process: what slogsender writes and
// slogrouter reads. It keeps the kinds of values, so that a sink prints what a handler in the worker would have.
//
//	record  'L', version (1), flags (1 time, 2 source), level, dropped, [time], [source], message, attributes
//	time    seconds since 1970, nanoseconds, seconds east of UTC
//	source  function, file, line
//	attr    tag (what kind), key, value; a group's value is attributes up to a byte 0
//
// Numbers are varints, the signed ones zigzag; a text is its length and its bytes. Dropped is how many records
// this sender's handler has dropped since the last one that came through. A reader refuses a version that it
// does not know, flags included.
//
// A record has at most MaxAttrs attributes and MaxDepth groups within each other, so that reading takes memory
// in proportion to it, whoever wrote it.
package logwire

import "errors"

// Limits of a record. Groups count as attributes.
const (
	MaxAttrs = 1 << 16
	MaxDepth = 64
)

const (
	magic   = 'L'
	version = 1

	flagTime   = 1
	flagSource = 2
)

// What an attribute's value is.
const (
	tagEnd      = iota // of a group; has no key
	tagNil             // an any that is nil
	tagFalse           //
	tagTrue            //
	tagInt64           // varint
	tagUint64          // uvarint
	tagFloat64         // 8 bytes, little-endian
	tagString          // text
	tagDuration        // varint, nanoseconds
	tagTime            // as above
	tagError           // text
	tagJSON            // text: any other value, as encoding/json has it
	tagBytes           // text: a []byte
	tagGroup           // attributes
)

// ErrLimit says that a record has more attributes or deeper groups than the format permits.
var ErrLimit = errors.New("more than 65536 attributes, or groups nested more than 64 deep")

// ErrMalformed is the class of everything that Decode finds wrong.
var ErrMalformed = errors.New("not a log record")
