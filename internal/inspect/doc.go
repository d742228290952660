// Package inspect looks at segments from outside, live or dead, without disturbing them.
//
// A segment's file is opened and mapped for reading only. No lock is taken, no futex call is made on its
// words, no slot is used, and no page is allocated: pages of the application area that do not exist yet are
// not touched. Who is alive is asked with F_OFD_GETLK, which answers and changes nothing.
//
// Nothing that is read is trusted. A file that is no segment, or one of another version or byte order, or is
// damaged, unfinished or truncated, also while it is looked at, is an error or a finding and never a crash.
//
// A picture of a ring that runs is not of one instant: [Snapshot] says by how far the ring moved while it was
// taken. The only function that changes anything is [Prune].
package inspect
