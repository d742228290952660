// Package soak runs everything at once for a long time, and watches that what the
// program uses does not grow.
//
// A soak is a sequence of epochs. In an epoch several runs of package stress are under
// way side by side, each on a router of its own (an arena), with its own verdict on every
// message. Between two epochs everything is taken down and the process is at rest: what
// it still holds then can be compared with the rest before, to the last descriptor. One
// arena's router runs through all epochs; what it gathers would show at rest, too.
//
//	soak.go       the epochs
//	arena.go      one router, and its runs
//	resources.go  what this process uses at one moment
//	children.go   its child processes, zombies among them
//	trend.go      whether a series grows
//	report.go     the figures, as a table and as JSON
package soak
