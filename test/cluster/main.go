package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/manul-net/manul/test/cluster/cluster"
	"github.com/manul-net/manul/test/cluster/nodeinit"
)

func main() {
	fmt.Println(os.Args)
	start := time.Now()
	switch os.Args[1] {
	case "node-init":
		if os.Args[2] == "prepare" {
			fmt.Println(nodeinit.Prepare(os.Args[3], os.Args[0], []string{"node-init", "run", os.Args[3]}))
		} else {
			fmt.Println(nodeinit.Run(os.Args[3]))
		}
		os.Exit(1)
	case "up":
		_, err := cluster.Up(context.Background(), cluster.Options{CNI: cluster.CNI(os.Args[2]), Say: func(f string, a ...any) { fmt.Printf("%v "+f+"\n", append([]any{time.Since(start)}, a...)...) }})
		fmt.Println(err, time.Since(start))
	case "down":
		fmt.Println(cluster.Down(context.Background(), cluster.Options{}))
	}
}
