// Package hosttest has what tests of exhaustion and of strange surroundings have in common: limits of
// this process, namespaces and control groups for others, and what a process has open. What changes
// the process is for test binaries started again as a worker, not for the one that tests.
package hosttest
