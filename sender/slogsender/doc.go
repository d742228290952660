// Package slogsender is a slog.Handler for worker processes: it sends what they log through a pipe of the router
// to the main process, where package slogrouter passes every record to a handler there.
//
//	s, err := sender.FromEnv()
//	...
//	err = s.Start()
//	...
//	log := slog.New(slogsender.NewHandler(s, nil))
//	log.Info("started", "job", 7)
//
// # What is promised
//
// When Handle has returned nil, the record is committed: the main process gets it, even if this process panics or
// is killed at the next instruction. A record whose Handle was called after another's had returned comes after it.
// Any number of goroutines and handlers may use one Sender, also beside other messages if the receiver can tell
// them apart; its pipe usually carries nothing but records.
//
// If the ring is full, Handle waits (Options.Wait), and then drops the record. Nobody looks at the error that
// Handle returns, least of all slog.Logger; so the drop is counted, and the next record that comes through tells
// the sink how many are missing. Records that cannot be sent go to Options.Fallback.
//
// # What a record keeps
//
// Time without its monotonic part, level, message, and attributes with their kinds and groups. Values are taken
// at the call: LogValuers are resolved, errors become their text, byte slices are copied, and any other value of
// no kind of its own becomes what slog.JSONHandler would make of it. The source (Options.AddSource) is looked up
// here, since a program counter means nothing in another process. A record has at most 65536 attributes, with
// groups nested at most 64 deep.
//
// Attributes that are not to leave the process have to be taken out here, by a handler around this one; renaming
// and formatting is better left to the handler in the main process.
package slogsender
