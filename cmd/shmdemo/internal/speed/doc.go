// Package speed compares the ring, and the router, with what would be in their place: pipes, unix sockets, a Go channel,
// and the time that two processors need to show each other a cache line.
//
// It measures with package bench: real processes, every message checked, and pairs of runs back to back with the cache-line
// floor before, between and after. Here is what a table takes: rows.go says what is compared, run.go goes round and round
// through all of it until the time is over, so that an early end costs pairs and not rows; result.go has the figures, table.go and plot.go show them.
package speed
