//go:build race

package tracer

const raceDetector = true
