//go:build race

package inspect

const underRace = true
