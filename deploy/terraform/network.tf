# -- Who may talk to whom: the load balancer to 8080, the nodes among themselves on 7947 ----------------

resource "aws_security_group" "nodes" {
  name_prefix = "${var.name}-"
  description = "GossipyKV tasks - API from the load balancer, gossip among themselves"
  vpc_id      = var.vpc_id
  tags        = merge(local.tags, { Name = var.name })

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "api" {
  security_group_id            = aws_security_group.nodes.id
  description                  = "API from the load balancer"
  ip_protocol                  = "tcp"
  from_port                    = 8080
  to_port                      = 8080
  referenced_security_group_id = var.listener_security_group_id
}

resource "aws_vpc_security_group_ingress_rule" "gossip" {
  for_each                     = toset(["tcp", "udp"])
  security_group_id            = aws_security_group.nodes.id
  description                  = "Gossip from the other tasks"
  ip_protocol                  = each.value
  from_port                    = 7947
  to_port                      = 7947
  referenced_security_group_id = aws_security_group.nodes.id
}

resource "aws_vpc_security_group_egress_rule" "gossip" {
  for_each                     = toset(["tcp", "udp"])
  security_group_id            = aws_security_group.nodes.id
  description                  = "Gossip to the other tasks"
  ip_protocol                  = each.value
  from_port                    = 7947
  to_port                      = 7947
  referenced_security_group_id = aws_security_group.nodes.id
}

resource "aws_vpc_security_group_egress_rule" "aws" {
  security_group_id = aws_security_group.nodes.id
  description       = "ECR, CloudWatch Logs and Secrets Manager"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = "0.0.0.0/0"
}

# -- Discovery ------------------------------------------------------------------------------------------

resource "aws_service_discovery_private_dns_namespace" "gossip" {
  name        = local.zone
  description = "Where GossipyKV tasks find each other"
  vpc         = var.vpc_id
  tags        = local.tags
}

resource "aws_service_discovery_service" "gossip" {
  name        = "gossip"
  description = "SRV record of the tasks, kept by ECS"
  tags        = local.tags

  dns_config {
    namespace_id   = aws_service_discovery_private_dns_namespace.gossip.id
    routing_policy = "MULTIVALUE"

    dns_records {
      type = "SRV"
      ttl  = 10
    }
  }

  health_check_custom_config {
    failure_threshold = 1
  }
}

# -- Behind the load balancer ---------------------------------------------------------------------------

resource "aws_lb_target_group" "nodes" {
  # checkov:skip=CKV_AWS_378: The load balancer ends TLS; behind it only its own security group gets in.
  name_prefix                   = "gkv-"
  vpc_id                        = var.vpc_id
  target_type                   = "ip"
  protocol                      = "HTTP"
  port                          = 8080
  deregistration_delay          = 15
  load_balancing_algorithm_type = "least_outstanding_requests"
  tags                          = local.tags

  # Readiness: in step with the cluster and not on its way out.
  health_check {
    protocol            = "HTTP"
    path                = "/health"
    interval            = 5
    timeout             = 4
    healthy_threshold   = 2
    unhealthy_threshold = 2
    matcher             = "200"
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_lb_listener_rule" "nodes" {
  listener_arn = var.listener_arn
  priority     = var.listener_priority
  tags         = local.tags

  action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.nodes.arn
  }

  condition {
    host_header {
      values = [var.host]
    }
  }
}
