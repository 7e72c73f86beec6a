# A GossipyKV cluster on ECS Fargate in a VPC, an ECS cluster and behind a load balancer that are there
# already. What cloudformation/service.yaml makes, as far as a service of one's own goes; the tests hold
# the two to the same ports, times, sizes and alarms.

locals {
  sizes = {
    small  = { cpu = 256, memory = 512, store_bytes = 201326592 }
    medium = { cpu = 512, memory = 1024, store_bytes = 402653184 }
    large  = { cpu = 1024, memory = 2048, store_bytes = 805306368 }
    xlarge = { cpu = 2048, memory = 4096, store_bytes = 1610612736 }
  }
  size = local.sizes[var.task_size]
  zone = "${var.name}.internal"
  tags = merge({ application = "gossipykv" }, var.tags)
}

resource "aws_ecs_task_definition" "node" {
  family                   = var.name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = local.size.cpu
  memory                   = local.size.memory
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.task.arn
  tags                     = local.tags

  runtime_platform {
    cpu_architecture        = var.cpu_architecture
    operating_system_family = "LINUX"
  }

  container_definitions = jsonencode([{
    name                   = "gossipykv"
    image                  = var.image
    essential              = true
    command                = ["agent"]
    user                   = "65532:65532"
    readonlyRootFilesystem = true
    linuxParameters        = { capabilities = { drop = ["ALL"] } }
    ulimits                = [{ name = "nofile", softLimit = 65535, hardLimit = 65535 }]
    portMappings = [
      { name = "http", containerPort = 8080, protocol = "tcp" },
      { name = "gossip-tcp", containerPort = 7947, protocol = "tcp" },
      { name = "gossip-udp", containerPort = 7947, protocol = "udp" },
    ]
    environment = [
      { name = "GOSSIPYKV_HTTP", value = "0.0.0.0:8080" },
      { name = "GOSSIPYKV_BIND", value = "0.0.0.0:7947" },
      { name = "GOSSIPYKV_DISCOVER_SRV", value = "gossip.${local.zone}" },
      { name = "GOSSIPYKV_LABEL", value = var.name },
      { name = "GOSSIPYKV_MAX_STORE_BYTES", value = tostring(local.size.store_bytes) },
      { name = "GOSSIPYKV_DRAIN_DELAY", value = "15s" },
      { name = "GOSSIPYKV_LEAVE_TIMEOUT", value = "20s" },
      { name = "GOSSIPYKV_LOG_LEVEL", value = var.log_level },
      { name = "GOSSIPYKV_LOG_FORMAT", value = "json" },
    ]
    secrets = [
      { name = "GOSSIPYKV_ENCRYPT_KEYS", valueFrom = var.gossip_key_secret_arn },
      { name = "GOSSIPYKV_HTTP_TOKEN", valueFrom = var.http_token_secret_arn },
    ]
    healthCheck = {
      command     = ["CMD", "/gossipykv", "health"]
      interval    = 10
      timeout     = 5
      retries     = 3
      startPeriod = 30
    }
    # Longer than the drain delay, the leave timeout and two seconds after them.
    stopTimeout = 60
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.nodes.name
        awslogs-region        = data.aws_region.here.id
        awslogs-stream-prefix = "node"
      }
    }
  }])
}

resource "aws_ecs_service" "nodes" {
  name                               = var.name
  cluster                            = var.cluster_arn
  task_definition                    = aws_ecs_task_definition.node.arn
  desired_count                      = var.desired_count
  launch_type                        = "FARGATE"
  enable_ecs_managed_tags            = true
  propagate_tags                     = "SERVICE"
  availability_zone_rebalancing      = "ENABLED"
  health_check_grace_period_seconds  = 180
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 150
  # An apply that ends has seen the roll through to its end.
  wait_for_steady_state = true
  tags                  = local.tags

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  alarms {
    alarm_names = [aws_cloudwatch_metric_alarm.broken.alarm_name]
    enable      = true
    rollback    = true
  }

  network_configuration {
    assign_public_ip = false
    subnets          = var.subnet_ids
    security_groups  = [aws_security_group.nodes.id]
  }

  load_balancer {
    container_name   = "gossipykv"
    container_port   = 8080
    target_group_arn = aws_lb_target_group.nodes.arn
  }

  service_registries {
    registry_arn   = aws_service_discovery_service.gossip.arn
    container_name = "gossipykv"
    container_port = 7947
  }

  # ECS refuses a target group to which no listener forwards, and nodes find nobody without the rules.
  depends_on = [
    aws_lb_listener_rule.nodes,
    aws_vpc_security_group_ingress_rule.gossip,
    aws_vpc_security_group_egress_rule.gossip,
    aws_iam_role_policy.execution,
  ]
}
