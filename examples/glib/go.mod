module github.com/shmrouter/shmrouter/examples/glib

go 1.26.0

replace github.com/shmrouter/shmrouter => ../..

require (
	github.com/ebitengine/purego v0.11.3
	github.com/shmrouter/shmrouter v0.0.0-00010101000000-000000000000
	github.com/stretchr/testify v1.12.1
	golang.org/x/sys v0.49.0
)

require (
	github.com/edsrzf/mmap-go v1.2.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
)
