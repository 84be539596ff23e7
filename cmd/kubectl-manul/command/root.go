// Package command is the commands of kubectl manul: each reads the API, has a pure function look at what was read, and prints.
package command

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/manul-net/manul/cmd/kubectl-manul/cluster"
	"github.com/manul-net/manul/cmd/kubectl-manul/report"
)

// ErrFound says that a check found something, which was printed.
var ErrFound = errors.New("something does not fit together")

// options are the flags of all commands.
type options struct {
	loading   *clientcmd.ClientConfigLoadingRules
	overrides clientcmd.ConfigOverrides
	output    string
	now       func() time.Time
}

// New is the root of all commands.
func New(version string) *cobra.Command {
	o := &options{loading: clientcmd.NewDefaultClientConfigLoadingRules(), now: time.Now}
	root := &cobra.Command{
		Use:           "kubectl-manul",
		Short:         "Look at Manul, the cluster's network",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl manul"},
	}
	flags := root.PersistentFlags()
	flags.StringVar(&o.loading.ExplicitPath, clientcmd.RecommendedConfigPathFlag, "", "path to the kubeconfig file")
	names := clientcmd.RecommendedConfigOverrideFlags("")
	names.ContextOverrideFlags.Namespace.LongName = "" // few commands are about what has one: scoped
	clientcmd.BindOverrideFlags(&o.overrides, flags, names)
	flags.StringVarP(&o.output, "output", "o", "", "json or yaml; a table when left out")
	root.AddCommand(o.nodes(), o.scoped(o.explain()), o.ipam(), o.bgp())
	return root
}

// scoped gives a command kubectl's flag for the namespace of what is named without one.
func (o *options) scoped(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringVarP(&o.overrides.Context.Namespace, clientcmd.FlagNamespace, "n", "", "namespace of what is named without one; that of the context when left out")
	return cmd
}

// qualified puts the namespace before a name that has none. What can't be a name of a pod or a service, such as an address, stays as it is.
func (o *options) qualified(arg string) (string, error) {
	if strings.Trim(arg, "0123456789.") == "" || len(validation.IsDNS1123Subdomain(arg)) > 0 {
		return arg, nil
	}
	namespace, _, err := o.config().Namespace()
	if err != nil {
		return "", fmt.Errorf("finding the namespace of %q: %w", arg, err)
	}
	return namespace + "/" + arg, nil
}

func (o *options) config() clientcmd.ClientConfig {
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(o.loading, &o.overrides)
}

// connect connects to the cluster that the flags name.
func (o *options) connect() (*cluster.Cluster, error) {
	config, err := o.config().ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("finding the cluster: %w", err)
	}
	config.QPS, config.Burst = 50, 100
	return cluster.Connect(config)
}

// print writes a report as the flags say.
func (o *options) print(cmd *cobra.Command, r report.Report) error {
	return report.Write(cmd.OutOrStdout(), r, o.output)
}

// checkOutput refuses a format that there is not before anything is done.
func (o *options) checkOutput() error {
	switch o.output {
	case report.FormatText, report.FormatJSON, report.FormatYAML:
		return nil
	}
	return fmt.Errorf("--output %q: want json or yaml, or leave it out", o.output)
}

// group is a command that has others below it.
func group(use, short string, below ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(below...)
	return cmd
}
