// Package slogrouter is the main process's end of slogsender: it turns what workers' handlers send into slog
// records, and passes each to a handler of the main process, which prints, filters or forwards them as if it had
// been called in the worker.
//
//	sink := slogrouter.NewSink(slog.NewJSONHandler(file, nil), &slogrouter.Options{
//		Attrs: []slog.Attr{slog.String("worker", "red"), slog.Int("pid", worker.PID())},
//	})
//	receiver.Handle(sink.Message, onEnd)       // on the router's event loop; or
//	err := sink.Collect(ctx, receiver)         // on this goroutine, until the worker ends
//
// Records of one worker come in the order in which it logged them. Of two workers, one that was logged after
// another Handle had returned comes after it. A sink belongs to one worker; the handler behind may be the same
// for all, and is called by one goroutine where all are on one event loop.
package slogrouter
