//go:build !race

package slogsender_test

const raceEnabled = false
