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
// A record that was logged after the logging of another had returned comes after it, also where they are two
// workers'. A sink belongs to one worker; the handler behind may be the same for all.
//
// Message calls the handler on the event loop, which everything else waits for meanwhile. A handler that is slow,
// or may block, is better called by Collect, on a goroutine for each worker. Either way memory is bounded: if the
// handler does not keep up, the ring fills, and workers wait, or drop records and count them (slogsender.Options).
package slogrouter
