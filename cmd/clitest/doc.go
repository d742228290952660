// Package clitest tests the commands shmctl and shmdemo the way people use them: scripts in testdata drive the built
// programs, what they write with --json is held against its schema, and terminals are played by pseudo-terminals. It
// is a module of its own, so that what it needs for that does not become a dependency of the library.
package clitest
