// Command ociimage writes an OCI image archive from files:
//
//	go -C hack/ociimage run . --name example.org/app:v1 --entrypoint /app --output app.tar out/app:/app
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/manul-net/manul/hack/ociimage/archive"
)

func main() {
	if err := command().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "ociimage:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var img archive.Image
	var output string
	var links []string
	cmd := &cobra.Command{
		Use:           "ociimage --name NAME --entrypoint PROGRAM --output FILE.tar SOURCE:DEST...",
		Short:         "Write an OCI image archive from files, without Docker",
		Args:          cobra.MinimumNArgs(1),
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(_ *cobra.Command, args []string) error {
			for _, a := range args {
				f, err := archive.ParseFile(a)
				if err != nil {
					return err
				}
				img.Files = append(img.Files, f)
			}
			for _, l := range links {
				f, err := archive.ParseLink(l)
				if err != nil {
					return err
				}
				img.Files = append(img.Files, f)
			}
			return archive.Write(img, output)
		},
	}
	f := cmd.Flags()
	f.StringVar(&img.Name, "name", "", "name and tag of the image")
	f.StringArrayVar(&img.Entrypoint, "entrypoint", nil, "program of the image; repeat for fixed arguments")
	f.StringArrayVar(&img.Cmd, "cmd", nil, "default argument; repeat for more")
	f.StringVar(&img.User, "user", "", "user the program runs as (default root)")
	f.StringArrayVar(&img.Env, "env", nil, "variable as KEY=value; repeat for more")
	f.StringArrayVar(&links, "link", nil, "symbolic link as DEST:TARGET; repeat for more")
	f.StringVar(&output, "output", "", "archive to write")
	for _, required := range []string{"name", "entrypoint", "output"} {
		_ = cmd.MarkFlagRequired(required) // fails only where there is no such flag
	}
	return cmd
}
