package validate

import (
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	v3 "github.com/manul-net/manul/api/v3"
)

const (
	// maxTemplates is how many kinds of host endpoints every node may get beside the default one.
	maxTemplates = 64
	// maxGenerateName leaves room for the name of a node in the name of a host endpoint.
	maxGenerateName = 63
)

// onOff are the words of switches.
func onOff() []string { return []string{"Enabled", "Disabled"} }

// KubeControllersConfiguration checks a KubeControllersConfiguration.
func KubeControllersConfiguration(k *v3.KubeControllersConfiguration) field.ErrorList {
	s, spec := &k.Spec, field.NewPath("spec")
	errs := checkDurations(spec, k.Spec)
	errs = append(errs, checkEnum(spec.Child("logSeverityScreen"), s.LogSeverityScreen, []string{"None", "Debug", "Info", "Warning", "Error", "Fatal", "Panic"})...)
	errs = append(errs, checkEnum(spec.Child("healthChecks"), s.HealthChecks, onOff())...)
	errs = append(errs, checkRange(spec.Child("prometheusMetricsPort"), s.PrometheusMetricsPort, 0, maxPort)...)
	errs = append(errs, checkRange(spec.Child("debugProfilePort"), s.DebugProfilePort, 0, maxPort)...)
	controllers := spec.Child("controllers")
	if lb := s.Controllers.LoadBalancer; lb != nil {
		errs = append(errs, checkEnum(controllers.Child("loadBalancer", "assignIPs"), lb.AssignIPs, []string{"AllServices", "RequestedServicesOnly"})...)
	}
	if m := s.Controllers.PolicyMigration; m != nil {
		errs = append(errs, checkEnum(controllers.Child("migration", "policyNameMigrator"), m.PolicyNameMigrator, onOff())...)
	}
	node := s.Controllers.Node
	if node == nil {
		return errs
	}
	errs = append(errs, checkEnum(controllers.Child("node", "syncLabels"), node.SyncLabels, onOff())...)
	if node.HostEndpoint == nil {
		return errs
	}
	return append(errs, AutoHostEndpoints(controllers.Child("node", "hostEndpoint"), node.HostEndpoint)...)
}

// AutoHostEndpoints checks what a KubeControllersConfiguration says of host endpoints.
func AutoHostEndpoints(path *field.Path, a *v3.AutoHostEndpointConfig) field.ErrorList {
	errs := checkEnum(path.Child("autoCreate"), a.AutoCreate, onOff())
	errs = append(errs, checkEnum(path.Child("createDefaultHostEndpoint"), a.CreateDefaultHostEndpoint, onOff())...)
	path = path.Child("templates")
	if len(a.Templates) > maxTemplates {
		return append(errs, field.TooMany(path, len(a.Templates), maxTemplates))
	}
	seen := map[string]bool{}
	for i := range a.Templates {
		t, path := &a.Templates[i], path.Index(i)
		if seen[t.GenerateName] {
			errs = append(errs, field.Duplicate(path.Child("generateName"), t.GenerateName))
		}
		seen[t.GenerateName] = true
		errs = append(errs, checkTemplate(path, t)...)
	}
	return errs
}

func checkTemplate(path *field.Path, t *v3.HostEndpointTemplate) field.ErrorList {
	var errs field.ErrorList
	name := path.Child("generateName")
	errs = append(errs, checkLength(name, t.GenerateName, maxGenerateName)...)
	for _, problem := range validation.IsDNS1123Subdomain(t.GenerateName) {
		errs = append(errs, field.Invalid(name, t.GenerateName, "it becomes a part of names: "+problem))
	}
	errs = append(errs, checkOnce(path.Child("interfaceCIDRs"), t.InterfaceCIDRs)...)
	for i, text := range t.InterfaceCIDRs {
		if _, err := ParseNet(text); err != nil {
			errs = append(errs, field.Invalid(path.Child("interfaceCIDRs").Index(i), text, err.Error()))
		}
	}
	if len(t.InterfaceCIDRs) == 0 && t.InterfacePattern == "" {
		errs = append(errs, field.Required(path.Child("interfaceCIDRs"), "give interfaceCIDRs or interfacePattern: which interfaces the host endpoints are for"))
	}
	errs = append(errs, checkPattern(path.Child("interfacePattern"), t.InterfacePattern)...)
	errs = append(errs, checkSelector(path.Child("nodeSelector"), t.NodeSelector, false)...)
	return append(errs, metav1validation.ValidateLabels(t.Labels, path.Child("labels"))...)
}
