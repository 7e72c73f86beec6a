output "service_name" {
  description = "The ECS service, for `aws ecs`."
  value       = aws_ecs_service.nodes.name
}

output "log_group_name" {
  description = "The log of all nodes, for `aws logs tail`."
  value       = aws_cloudwatch_log_group.nodes.name
}

output "security_group_id" {
  description = "The group whose members may gossip."
  value       = aws_security_group.nodes.id
}

output "target_group_arn" {
  description = "The target group of the nodes."
  value       = aws_lb_target_group.nodes.arn
}

output "discovery_name" {
  description = "The SRV record of the nodes, known inside the VPC."
  value       = "${aws_service_discovery_service.gossip.name}.${local.zone}"
}
