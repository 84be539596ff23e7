// Command manul is the CNI plugin: the container runtime calls it for every pod that comes or goes.
package main

import "github.com/manul-net/manul/cni/plugin"

// version of the release, set by the linker.
var version = "dev"

func main() { plugin.Main(version) }
